//! The gate of one name: applies its rules to visitors, and counts their requests.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::defaults;
use crate::domain::Epoch;

use super::basic::{Credential, Known};
use super::guesses::Guesses;
use super::rate::Bucket;
use super::rules::Rules;
use super::source::Source;

/// Why a visitor's request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// Not from one of the networks, or without the secret field.
    Forbidden,
    /// No password, or a wrong one.
    Password,
    /// Too many requests, or too many wrong passwords; with the time until another request makes sense.
    TooMany(Duration),
    /// The body is too large.
    TooLarge,
}

/// The state that all gates of a relay share.
pub struct Checks {
    guesses: Guesses,
    hashing: Arc<Semaphore>,
}

impl Default for Checks {
    fn default() -> Self {
        let guesses = Guesses::new(defaults::GUESSES_VISITOR);
        Self { guesses, hashing: Arc::new(Semaphore::new(defaults::HASHING)) }
    }
}

/// The rules of one route, and their counts.
pub struct VisitorPolicy {
    rules: Arc<Rules>,
    epoch: Epoch,
    known: Known,
    /// The places for password checks of this name, so that one name does not take the places of all.
    hashing: Arc<Semaphore>,
    counts: Mutex<Counts>,
}

struct Counts {
    name: Bucket,
    in_flight: u32,
    visitors: HashMap<Source, Count>,
}

struct Count {
    bucket: Bucket,
    in_flight: u32,
}

/// Proof that a visitor may make this request. Held until the answer has ended, because some rules count the requests
/// in flight.
#[must_use]
pub struct VisitorPermit {
    epoch: Epoch,
    held: Option<HeldCounts>,
}

struct HeldCounts {
    gate: Arc<VisitorPolicy>,
    source: Source,
}

impl VisitorPermit {
    /// For a route that has no rules at this epoch.
    ///
    /// # Errors
    /// The gate of a route with rules: [`VisitorPolicy::visit`] decides.
    pub fn unless_ruled(gate: Option<Arc<VisitorPolicy>>, epoch: Epoch) -> Result<Self, Arc<VisitorPolicy>> {
        gate.map_or(Ok(Self { epoch, held: None }), Err)
    }

    /// The epoch at which the permit was given: since then an agent with other rules may have connected.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The most bytes that the request's body may have.
    pub fn body(&self) -> Option<u64> {
        self.held.as_ref()?.gate.rules.body
    }

    /// Whether the permit counts nothing, so that it need not be held.
    pub fn is_free(&self) -> bool {
        self.held.is_none()
    }
}

impl Drop for HeldCounts {
    fn drop(&mut self) {
        let mut counts = self.gate.counts.lock();
        counts.in_flight = counts.in_flight.saturating_sub(1);
        if let Some(count) = counts.visitors.get_mut(&self.source) {
            count.in_flight = count.in_flight.saturating_sub(1);
        }
    }
}

impl VisitorPolicy {
    /// A gate with rules that are in force from `epoch` on and no visitors yet.
    pub fn new(rules: Arc<Rules>, epoch: Epoch) -> Self {
        let now = Instant::now();
        let name = Bucket::full(rules.rate.unwrap_or(NonZeroU32::MAX), now);
        let counts = Counts { name, in_flight: 0, visitors: HashMap::new() };
        let hashing = Arc::new(Semaphore::new(defaults::HASHING_PER_NAME));
        Self { rules, epoch, known: Known::new(), hashing, counts: Mutex::new(counts) }
    }

    /// Its rules.
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// Judges a request, and removes from its head the fields for the relay alone: the password and the secret field.
    /// `length` is the length of the body, if it is known. Dropping the future gives no permit.
    ///
    /// Cheap checks come first, and limits that a stranger could exhaust come last: the rate of an address is checked
    /// before its password, and the name's own rate counts only requests that the other rules admit.
    ///
    /// # Errors
    /// [`Denied`]
    pub async fn visit(
        self: &Arc<Self>,
        checks: &Checks,
        from: IpAddr,
        headers: &mut HeaderMap,
        length: Option<u64>,
    ) -> Result<VisitorPermit, Denied> {
        let rules = &self.rules;
        let from = from.to_canonical();
        if !rules.networks.is_empty() && !rules.networks.iter().any(|net| net.contains(&from)) {
            return Err(Denied::Forbidden);
        }
        let source = Source::from(from);
        self.enter(source)?;
        if let Some(secret) = &rules.secret {
            // The field must occur only once; of two it is not clear which counts.
            let mut values = headers.get_all(secret.name()).iter();
            let (first, second) = (values.next(), values.next());
            if second.is_some() || !first.is_some_and(|value| secret.is(value.as_bytes())) {
                return Err(Denied::Forbidden);
            }
            headers.remove(secret.name());
        }
        if !rules.basic.is_empty() {
            self.password(checks, from, headers).await?;
            headers.remove(AUTHORIZATION);
        }
        if rules.body.zip(length).is_some_and(|(most, length)| length > most) {
            return Err(Denied::TooLarge);
        }
        self.begin(source)
    }

    /// Counts one more request of a source.
    fn enter(&self, source: Source) -> Result<(), Denied> {
        let Some(rate) = self.visitor_rate() else { return Ok(()) };
        let now = Instant::now();
        let mut counts = self.counts.lock();
        count_of(&mut counts.visitors, source, rate, now)?.bucket.take(rate, now).map_err(Denied::TooMany)
    }

    /// The rate of each visitor; `None` when visitors are not counted.
    fn visitor_rate(&self) -> Option<NonZeroU32> {
        self.rules.visitor_rate.or(self.rules.visitor_in_flight.map(|_| NonZeroU32::MAX))
    }

    async fn password(&self, checks: &Checks, from: IpAddr, headers: &HeaderMap) -> Result<(), Denied> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return Err(Denied::Password) };
        if self.known.knows(value) {
            return Ok(());
        }
        let Some(credential) = Credential::parse(value) else { return Err(Denied::Password) };
        // The place of this name comes first, so that no name has more than one request in the queue for the shared
        // places.
        let places = async {
            let own = self.hashing.clone().acquire_owned().await.ok()?;
            Some((own, checks.hashing.clone().acquire_owned().await.ok()?))
        };
        let place = tokio::time::timeout(defaults::HASHING_WAIT, places).await;
        let Ok(Some(place)) = place else { return Err(Denied::TooMany(defaults::RETRY_AFTER)) };
        // Checked only with the place held: otherwise many tries at once would all pass before the first is counted.
        if let Some(wait) = checks.guesses.exhausted(from) {
            return Err(Denied::TooMany(wait));
        }
        let rules = self.rules.clone();
        let hashed = tokio::task::spawn_blocking(move || {
            // The place is held until the work is done, even if the visitor has left.
            let _place = place;
            credential.is_of(&rules.basic)
        });
        match hashed.await {
            Ok(true) => {
                self.known.learn(value);
                Ok(())
            }
            _ => Err(checks.guesses.wrong(from).map_or(Denied::Password, Denied::TooMany)),
        }
    }

    /// Checks the name's own limits, and counts the request as in flight.
    fn begin(self: &Arc<Self>, source: Source) -> Result<VisitorPermit, Denied> {
        let rules = &self.rules;
        let mut counts = self.counts.lock();
        let counts = &mut *counts;
        // The table may have dropped the visitor while its password was checked.
        let mut visitor = match self.visitor_rate() {
            Some(rate) => Some(count_of(&mut counts.visitors, source, rate, Instant::now())?),
            None => None,
        };
        let at_once = |most: Option<NonZeroU32>, now: u32| most.is_some_and(|most| now >= most.get());
        if at_once(rules.in_flight, counts.in_flight)
            || at_once(rules.visitor_in_flight, visitor.as_ref().map_or(0, |count| count.in_flight))
        {
            return Err(Denied::TooMany(defaults::RETRY_SOON));
        }
        if let Some(rate) = rules.rate {
            counts.name.take(rate, Instant::now()).map_err(Denied::TooMany)?;
        }
        counts.in_flight += 1;
        if let Some(count) = &mut visitor {
            count.in_flight += 1;
        }
        Ok(VisitorPermit { epoch: self.epoch, held: Some(HeldCounts { gate: self.clone(), source }) })
    }
}

/// The count of a visitor; a fresh one for a visitor that is not known.
fn count_of(
    visitors: &mut HashMap<Source, Count>,
    source: Source,
    rate: NonZeroU32,
    now: Instant,
) -> Result<&mut Count, Denied> {
    let full = visitors.len() >= defaults::VISITORS_KNOWN;
    if full && !visitors.contains_key(&source) && !make_room(visitors, rate, now) {
        return Err(Denied::TooMany(defaults::RETRY_AFTER));
    }
    let fresh = || Count { bucket: Bucket::full(rate, now), in_flight: 0 };
    Ok(visitors.entry(source).or_insert_with(fresh))
}

/// Drops the visitors with a full bucket and no request in flight; if there are none, one visitor without a request in
/// flight. Returns whether there is room.
fn make_room(visitors: &mut HashMap<Source, Count>, rate: NonZeroU32, now: Instant) -> bool {
    visitors.retain(|_, count| count.in_flight > 0 || !count.bucket.is_full(rate, now));
    if visitors.len() < defaults::VISITORS_KNOWN {
        return true;
    }
    let idle = visitors.iter().find(|(_, count)| count.in_flight == 0).map(|(source, _)| *source);
    idle.is_some_and(|source| visitors.remove(&source).is_some())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use http::HeaderValue;

    use super::super::basic::User;
    use super::super::rules::FieldSecret;
    use super::*;
    use crate::domain::Secret;

    fn gate(rules: Rules) -> Arc<VisitorPolicy> {
        Arc::new(VisitorPolicy::new(Arc::new(rules), Epoch::default()))
    }

    fn rules(text: &str) -> Rules {
        text.parse().unwrap()
    }

    fn basic(password: &str) -> HeaderMap {
        let text = base64::engine::general_purpose::STANDARD.encode(format!("ann:{password}"));
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::try_from(format!("Basic {text}")).unwrap())])
    }

    async fn visit(
        gate: &Arc<VisitorPolicy>,
        checks: &Checks,
        from: &str,
        headers: &mut HeaderMap,
    ) -> Result<VisitorPermit, Denied> {
        gate.visit(checks, from.parse().unwrap(), headers, None).await
    }

    #[tokio::test]
    async fn only_listed_networks_are_admitted() {
        let (gate, checks) = (gate(rules(r#"net=("192.0.2.0/24" "2001:db8::/32")"#)), Checks::default());
        for (from, in_) in [
            ("192.0.2.255", true),
            ("::ffff:192.0.2.1", true),
            ("2001:db8::1", true),
            ("192.0.3.0", false),
            ("2001:db9::1", false),
            ("::1", false),
        ] {
            assert_eq!(visit(&gate, &checks, from, &mut HeaderMap::new()).await.is_ok(), in_, "{from}");
        }
    }

    #[tokio::test]
    async fn the_secret_field_is_checked_and_removed() {
        let rules = Rules { secret: Some(FieldSecret::new("x-edge", "hush").unwrap()), ..Rules::default() };
        let (gate, checks) = (gate(rules), Checks::default());
        let fields = |all: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in all {
                headers.append("x-edge", HeaderValue::from_static(value));
            }
            headers
        };
        let mut right = fields(&["hush"]);
        assert!(visit(&gate, &checks, "::1", &mut right).await.is_ok() && right.is_empty());
        for wrong in [&[][..], &["husk"], &["hush", "hush"], &["wrong", "hush"]] {
            let denied = visit(&gate, &checks, "::1", &mut fields(wrong)).await.err();
            assert_eq!(denied, Some(Denied::Forbidden), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn wrong_passwords_are_limited_and_known_credentials_still_pass() {
        let ann = User::new("ann", &Secret::new("right"), "").unwrap();
        let (gate, checks) = (gate(Rules { basic: vec![ann], ..Rules::default() }), Checks::default());
        let ask =
            async |password: &str, from: &str| visit(&gate, &checks, from, &mut basic(password)).await.err();
        let mut headers = basic("right");
        assert!(visit(&gate, &checks, "192.0.2.1", &mut headers).await.is_ok() && headers.is_empty());
        assert_eq!(
            visit(&gate, &checks, "192.0.2.1", &mut HeaderMap::new()).await.err(),
            Some(Denied::Password)
        );
        for n in 0..defaults::GUESSES_VISITOR {
            assert_eq!(ask(&n.to_string(), "192.0.2.1").await, Some(Denied::Password));
        }
        assert!(matches!(ask("another", "192.0.2.1").await, Some(Denied::TooMany(_))));
        assert_eq!(ask("right", "192.0.2.1").await, None, "it was right before");
        assert_eq!(ask("another", "192.0.2.2").await, Some(Denied::Password), "another address");
        // Two `Authorization` fields are refused, even if one is right.
        let mut both = basic("right");
        both.append(AUTHORIZATION, HeaderValue::from_static("Basic YTpi"));
        assert_eq!(visit(&gate, &checks, "192.0.2.2", &mut both).await.err(), Some(Denied::Password));
    }

    #[tokio::test]
    async fn requests_in_flight_are_counted_until_their_permits_are_dropped() {
        let (gate, checks) = (gate(rules("in-flight=3, visitor-in-flight=2")), Checks::default());
        let ask = async |from: &str| visit(&gate, &checks, from, &mut HeaderMap::new()).await;
        let (first, second) = (ask("192.0.2.1").await.unwrap(), ask("192.0.2.1").await.unwrap());
        assert!(matches!(ask("192.0.2.1").await.err(), Some(Denied::TooMany(_))), "two of one visitor");
        let third = ask("192.0.2.2").await.unwrap();
        assert!(matches!(ask("192.0.2.3").await.err(), Some(Denied::TooMany(_))), "three of the name");
        assert!(first.epoch() == Epoch::default() && !first.is_free());
        drop((first, second, third));
        assert_eq!(gate.counts.lock().in_flight, 0);
        assert!(ask("192.0.2.1").await.is_ok());
    }

    #[tokio::test]
    async fn a_rate_limits_the_name_or_each_visitor() {
        let checks = Checks::default();
        let of_name = gate(rules("rate=2"));
        let of_each = gate(rules("visitor-rate=2"));
        let let_in = async |gate: &Arc<VisitorPolicy>, from: [&str; 4]| {
            let mut all = 0;
            for from in from {
                all += usize::from(visit(gate, &checks, from, &mut HeaderMap::new()).await.is_ok());
            }
            all
        };
        assert_eq!(let_in(&of_name, ["::1", "::1", "192.0.2.1", "192.0.2.2"]).await, 2);
        assert_eq!(
            let_in(&of_each, ["::1", "::2", "::3", "192.0.2.2"]).await,
            3,
            "an IPv6 network is one visitor"
        );
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        let (gate, checks) = (gate(rules("body=10")), Checks::default());
        let from = [127, 0, 0, 1].into();
        for (length, in_) in [(None, true), (Some(10), true), (Some(11), false)] {
            let visited = gate.visit(&checks, from, &mut HeaderMap::new(), length).await;
            assert_eq!(visited.is_ok(), in_, "{length:?}");
        }
    }

    #[test]
    fn the_table_of_visitors_is_bounded() {
        let gate = gate(rules("visitor-rate=1"));
        for n in 0..defaults::VISITORS_KNOWN as u32 + 10 {
            gate.enter(Source::V4(n)).unwrap();
        }
        assert!(gate.counts.lock().visitors.len() <= defaults::VISITORS_KNOWN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_follows_the_clock_of_the_runtime() {
        let (gate, checks) = (gate(rules("rate=2")), Checks::default());
        let ask = async || visit(&gate, &checks, "::1", &mut HeaderMap::new()).await.map(drop);
        assert!(ask().await.is_ok() && ask().await.is_ok());
        assert!(matches!(ask().await, Err(Denied::TooMany(_))));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(ask().await, Ok(()), "a second later");
    }

    #[test]
    fn a_visitor_evicted_during_its_password_check_is_counted() {
        let gate = gate(rules("visitor-in-flight=1"));
        let source = Source::V4(u32::MAX);
        gate.enter(source).unwrap();
        // Meanwhile so many other visitors come that the table drops this one.
        for n in 0..=defaults::VISITORS_KNOWN as u32 {
            gate.enter(Source::V4(n)).unwrap();
        }
        assert!(!gate.counts.lock().visitors.contains_key(&source), "it was forgotten");
        let permit = gate.begin(source);
        assert!(permit.is_ok());
        assert!(matches!(gate.begin(source).err(), Some(Denied::TooMany(_))), "two requests at once");
        drop(permit);
        assert!(gate.begin(source).is_ok());
    }

    #[tokio::test]
    async fn wrong_passwords_for_one_name_do_not_delay_the_logins_of_another() {
        let checks = Checks::default();
        let ruled = || {
            let ann = User::new("ann", &Secret::new("right"), "").unwrap();
            gate(Rules { basic: vec![ann], ..Rules::default() })
        };
        let (flooded, other) = (ruled(), ruled());
        let done = std::sync::atomic::AtomicUsize::new(0);
        let wrong = (0..60).map(|n| {
            let (flooded, checks, done) = (&flooded, &checks, &done);
            async move {
                let from = format!("192.0.2.{n}");
                assert!(visit(flooded, checks, &from, &mut basic("wrong")).await.is_err());
                done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        });
        let login = async {
            let permit = visit(&other, &checks, "198.51.100.1", &mut basic("right")).await;
            (permit.is_ok(), done.load(std::sync::atomic::Ordering::Relaxed))
        };
        let (_, (is_in, before)) = tokio::join!(futures_util::future::join_all(wrong), login);
        assert!(is_in);
        assert!(before < 20, "{before} of 60 wrong passwords for another name were checked first");
    }
}

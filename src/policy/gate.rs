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

use super::basic::{Credential, VerifiedCredentials};
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
    verified: VerifiedCredentials,
    /// The slots for password checks of this name, so that one name does not use the shared slots of all names.
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
    counted: Option<CountedRequest>,
}

struct CountedRequest {
    gate: Arc<VisitorPolicy>,
    source: Source,
}

impl VisitorPermit {
    /// For a route that has no rules at this epoch.
    ///
    /// # Errors
    /// The gate of a route with rules: [`VisitorPolicy::visit`] decides.
    pub fn without_rules(gate: Option<Arc<VisitorPolicy>>, epoch: Epoch) -> Result<Self, Arc<VisitorPolicy>> {
        gate.map_or(Ok(Self { epoch, counted: None }), Err)
    }

    /// The epoch at which the permit was given: since then an agent with other rules may have connected.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The most bytes that the request's body may have.
    pub fn body(&self) -> Option<u64> {
        self.counted.as_ref()?.gate.rules.body
    }

    /// Whether the permit counts no request, so that it can be dropped at once.
    pub fn is_free(&self) -> bool {
        self.counted.is_none()
    }
}

impl Drop for CountedRequest {
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
        Self { rules, epoch, verified: VerifiedCredentials::new(), hashing, counts: Mutex::new(counts) }
    }

    /// Its rules.
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// Checks a request, and removes from its head the fields for the relay alone: the password and the secret field.
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
        self.count_request(source)?;
        if let Some(secret) = &rules.secret {
            // The field must occur only once; of two it is not clear which counts.
            let mut values = headers.get_all(secret.name()).iter();
            let (first, second) = (values.next(), values.next());
            if second.is_some() || !first.is_some_and(|value| secret.matches(value.as_bytes())) {
                return Err(Denied::Forbidden);
            }
            headers.remove(secret.name());
        }
        if !rules.basic.is_empty() {
            self.check_password(checks, from, headers).await?;
            headers.remove(AUTHORIZATION);
        }
        if rules.body.zip(length).is_some_and(|(most, length)| length > most) {
            return Err(Denied::TooLarge);
        }
        self.count_in_flight(source)
    }

    /// Counts one more request of a source.
    fn count_request(&self, source: Source) -> Result<(), Denied> {
        let Some(rate) = self.visitor_rate() else { return Ok(()) };
        let now = Instant::now();
        let mut counts = self.counts.lock();
        count_of(&mut counts.visitors, source, rate, now)?.bucket.take(rate, now).map_err(Denied::TooMany)
    }

    /// The rate of each visitor; `None` when visitors are not counted.
    fn visitor_rate(&self) -> Option<NonZeroU32> {
        self.rules.visitor_rate.or(self.rules.visitor_in_flight.map(|_| NonZeroU32::MAX))
    }

    async fn check_password(&self, checks: &Checks, from: IpAddr, headers: &HeaderMap) -> Result<(), Denied> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return Err(Denied::Password) };
        if self.verified.contains(value) {
            return Ok(());
        }
        let Some(credential) = Credential::parse(value) else { return Err(Denied::Password) };
        // The slot of this name is acquired first, so that no name has more than one request in the queue for the
        // shared slots.
        let slots = async {
            let own = self.hashing.clone().acquire_owned().await.ok()?;
            Some((own, checks.hashing.clone().acquire_owned().await.ok()?))
        };
        let slots = tokio::time::timeout(defaults::HASHING_WAIT, slots).await;
        let Ok(Some(slots)) = slots else { return Err(Denied::TooMany(defaults::RETRY_AFTER)) };
        // Checked only after the slots are acquired: otherwise many concurrent tries would pass before
        // the first is counted.
        if let Some(wait) = checks.guesses.exhausted(from) {
            return Err(Denied::TooMany(wait));
        }
        let rules = self.rules.clone();
        let hashed = tokio::task::spawn_blocking(move || {
            // The slots are released when the work is done, even if the visitor has left before.
            let _slots = slots;
            credential.is_valid_for(&rules.basic)
        });
        match hashed.await {
            Ok(true) => {
                self.verified.insert(value);
                Ok(())
            }
            _ => Err(checks.guesses.record_wrong(from).map_or(Denied::Password, Denied::TooMany)),
        }
    }

    /// Checks the name's own limits, and counts the request as in flight.
    fn count_in_flight(self: &Arc<Self>, source: Source) -> Result<VisitorPermit, Denied> {
        let rules = &self.rules;
        let mut counts = self.counts.lock();
        let counts = &mut *counts;
        // The table may have dropped the visitor while its password was checked.
        let mut visitor = match self.visitor_rate() {
            Some(rate) => Some(count_of(&mut counts.visitors, source, rate, Instant::now())?),
            None => None,
        };
        let is_reached = |most: Option<NonZeroU32>, now: u32| most.is_some_and(|most| now >= most.get());
        if is_reached(rules.in_flight, counts.in_flight)
            || is_reached(rules.visitor_in_flight, visitor.as_ref().map_or(0, |count| count.in_flight))
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
        Ok(VisitorPermit { epoch: self.epoch, counted: Some(CountedRequest { gate: self.clone(), source }) })
    }
}

/// The count of a visitor. A visitor that is not in the table gets a new count.
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
        for (from, admitted) in [
            ("192.0.2.255", true),
            ("::ffff:192.0.2.1", true),
            ("2001:db8::1", true),
            ("192.0.3.0", false),
            ("2001:db9::1", false),
            ("::1", false),
        ] {
            assert_eq!(visit(&gate, &checks, from, &mut HeaderMap::new()).await.is_ok(), admitted, "{from}");
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
        let refusal =
            async |password: &str, from: &str| visit(&gate, &checks, from, &mut basic(password)).await.err();
        let mut headers = basic("right");
        assert!(visit(&gate, &checks, "192.0.2.1", &mut headers).await.is_ok() && headers.is_empty());
        assert_eq!(
            visit(&gate, &checks, "192.0.2.1", &mut HeaderMap::new()).await.err(),
            Some(Denied::Password)
        );
        for n in 0..defaults::GUESSES_VISITOR {
            assert_eq!(refusal(&n.to_string(), "192.0.2.1").await, Some(Denied::Password));
        }
        assert!(matches!(refusal("another", "192.0.2.1").await, Some(Denied::TooMany(_))));
        assert_eq!(refusal("right", "192.0.2.1").await, None, "it was verified before");
        assert_eq!(refusal("another", "192.0.2.2").await, Some(Denied::Password), "another address");
        // Two `Authorization` fields are refused, even if one is right.
        let mut both = basic("right");
        both.append(AUTHORIZATION, HeaderValue::from_static("Basic YTpi"));
        assert_eq!(visit(&gate, &checks, "192.0.2.2", &mut both).await.err(), Some(Denied::Password));
    }

    #[tokio::test]
    async fn requests_in_flight_are_counted_until_their_permits_are_dropped() {
        let (gate, checks) = (gate(rules("in-flight=3, visitor-in-flight=2")), Checks::default());
        let request = async |from: &str| visit(&gate, &checks, from, &mut HeaderMap::new()).await;
        let (first, second) = (request("192.0.2.1").await.unwrap(), request("192.0.2.1").await.unwrap());
        assert!(matches!(request("192.0.2.1").await.err(), Some(Denied::TooMany(_))), "two of one visitor");
        let third = request("192.0.2.2").await.unwrap();
        assert!(matches!(request("192.0.2.3").await.err(), Some(Denied::TooMany(_))), "three of the name");
        assert!(first.epoch() == Epoch::default() && !first.is_free());
        drop((first, second, third));
        assert_eq!(gate.counts.lock().in_flight, 0);
        assert!(request("192.0.2.1").await.is_ok());
    }

    #[tokio::test]
    async fn a_rate_limits_the_name_or_each_visitor() {
        let checks = Checks::default();
        let name_gate = gate(rules("rate=2"));
        let visitor_gate = gate(rules("visitor-rate=2"));
        let admitted = async |gate: &Arc<VisitorPolicy>, from: [&str; 4]| {
            let mut count = 0;
            for from in from {
                count += usize::from(visit(gate, &checks, from, &mut HeaderMap::new()).await.is_ok());
            }
            count
        };
        assert_eq!(admitted(&name_gate, ["::1", "::1", "192.0.2.1", "192.0.2.2"]).await, 2);
        assert_eq!(
            admitted(&visitor_gate, ["::1", "::2", "::3", "192.0.2.2"]).await,
            3,
            "an IPv6 network is one visitor"
        );
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        let (gate, checks) = (gate(rules("body=10")), Checks::default());
        let from = [127, 0, 0, 1].into();
        for (length, admitted) in [(None, true), (Some(10), true), (Some(11), false)] {
            let visited = gate.visit(&checks, from, &mut HeaderMap::new(), length).await;
            assert_eq!(visited.is_ok(), admitted, "{length:?}");
        }
    }

    #[test]
    fn the_table_of_visitors_is_bounded() {
        let gate = gate(rules("visitor-rate=1"));
        for n in 0..defaults::VISITORS_KNOWN as u32 + 10 {
            gate.count_request(Source::V4(n)).unwrap();
        }
        assert!(gate.counts.lock().visitors.len() <= defaults::VISITORS_KNOWN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_follows_the_clock_of_the_runtime() {
        let (gate, checks) = (gate(rules("rate=2")), Checks::default());
        let request = async || visit(&gate, &checks, "::1", &mut HeaderMap::new()).await.map(drop);
        assert!(request().await.is_ok() && request().await.is_ok());
        assert!(matches!(request().await, Err(Denied::TooMany(_))));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(request().await, Ok(()), "a second later");
    }

    #[test]
    fn a_visitor_evicted_during_its_password_check_is_counted() {
        let gate = gate(rules("visitor-in-flight=1"));
        let source = Source::V4(u32::MAX);
        gate.count_request(source).unwrap();
        // Meanwhile so many other visitors arrive that the table drops this visitor.
        for n in 0..=defaults::VISITORS_KNOWN as u32 {
            gate.count_request(Source::V4(n)).unwrap();
        }
        assert!(!gate.counts.lock().visitors.contains_key(&source), "the table still has the visitor");
        let permit = gate.count_in_flight(source);
        assert!(permit.is_ok());
        let second = gate.count_in_flight(source).err();
        assert!(matches!(second, Some(Denied::TooMany(_))), "two requests at once");
        drop(permit);
        assert!(gate.count_in_flight(source).is_ok());
    }

    #[tokio::test]
    async fn wrong_passwords_for_one_name_do_not_delay_the_logins_of_another() {
        let checks = Checks::default();
        let gate_with_password = || {
            let ann = User::new("ann", &Secret::new("right"), "").unwrap();
            gate(Rules { basic: vec![ann], ..Rules::default() })
        };
        let (flooded, other) = (gate_with_password(), gate_with_password());
        let checked = std::sync::atomic::AtomicUsize::new(0);
        let wrong = (0..60).map(|n| {
            let (flooded, checks, checked) = (&flooded, &checks, &checked);
            async move {
                let from = format!("192.0.2.{n}");
                assert!(visit(flooded, checks, &from, &mut basic("wrong")).await.is_err());
                checked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        });
        let login = async {
            let permit = visit(&other, &checks, "198.51.100.1", &mut basic("right")).await;
            (permit.is_ok(), checked.load(std::sync::atomic::Ordering::Relaxed))
        };
        let (_, (admitted, before)) = tokio::join!(futures_util::future::join_all(wrong), login);
        assert!(admitted);
        assert!(before < 20, "{before} of 60 wrong passwords for another name were checked first");
    }
}

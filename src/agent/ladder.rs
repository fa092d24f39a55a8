//! The ladder chooses the transport. The agent tries the rungs from the best downwards until a connection opens, and
//! remembers that rung. While better rungs exist, the agent tries them again in the background.
//!
//! The agent leaves a rung only for an error that another rung can cure: an answer other than 101, or a connection that
//! broke before or right behind its 101. A refusal, a certificate error or an unreachable relay is the same on every
//! rung.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::defaults;
use crate::session::Kind;
use crate::transport::{AgentSide, Call, OpenError, Opened, Transport};

/// One step of the ladder: a transport with the carriers that it offers.
pub(super) struct Rung {
    /// The name of the rung in logs and in the status.
    pub(super) name: &'static str,
    side: Box<dyn AgentSide>,
    call: Call,
}

/// Chooses the transport: see the module.
pub(super) struct Ladder {
    rungs: Vec<Rung>,
    /// The first wait before better rungs are tried again.
    climb: Duration,
    state: Mutex<LadderState>,
}

struct LadderState {
    /// The rung in use; the next open starts there.
    rung: usize,
    /// Connections in a row that broke right behind their 101.
    early_ends: u32,
    climb_at: Option<Instant>,
    climb_wait: Duration,
    /// The rung before a climb that no connection has confirmed yet, and the wait before that climb.
    climbed_from: Option<(usize, Duration)>,
}

impl Ladder {
    /// The rungs of `transports`, the best first. Better rungs are tried again after `climb` at the latest. If the
    /// choice is `automatic`, a transport with several carriers gets a second rung with `h1` alone: a middlebox that
    /// passes a 101 can still break the protocol behind the 101.
    pub(super) fn new(
        transports: &[&'static dyn Transport],
        call: &Call,
        automatic: bool,
        climb: Duration,
    ) -> Self {
        let mut rungs = Vec::new();
        for transport in transports {
            let plain = !automatic && call.carriers == [Kind::H1];
            let name = if plain { transport.plain_name() } else { transport.name() };
            rungs.push(Rung { name, side: transport.agent(), call: call.clone() });
            if automatic && transport.carriers().len() > 1 && call.carriers.len() > 1 {
                let call = Call { carriers: vec![Kind::H1], ..call.clone() };
                rungs.push(Rung { name: transport.plain_name(), side: transport.agent(), call });
            }
        }
        let state =
            LadderState { rung: 0, early_ends: 0, climb_at: None, climb_wait: climb, climbed_from: None };
        Self { rungs, climb, state: Mutex::new(state) }
    }

    /// The name of a rung.
    pub(super) fn name(&self, rung: usize) -> &'static str {
        self.rungs.get(rung).map_or("", |r| r.name)
    }

    /// Opens a connection on the rung in use or, if that fails, on the first lower rung that works. Dropping the future
    /// cancels the attempt.
    ///
    /// # Errors
    /// The refusal of a relay, on whichever rung; it has a status and often a remedy. Otherwise [`OpenError`] of the
    /// first rung tried, when no rung works or when another rung cannot cure an error.
    pub(super) async fn open(&self) -> Result<(usize, Opened), OpenError> {
        let start = self.state.lock().rung;
        let mut first_error = None;
        for (index, rung) in self.rungs.iter().enumerate().skip(start) {
            match rung.side.open(&rung.call).await {
                Ok(opened) => {
                    if let Some(error) = &first_error {
                        self.move_to(index, &format!("{error}"));
                    }
                    return Ok((index, opened));
                }
                Err(error) if is_cured_by_another(&error) => {
                    tracing::debug!(rung = rung.name, %error, "this rung does not work");
                    first_error.get_or_insert(error);
                }
                Err(refusal @ OpenError::Refused { .. }) => return Err(refusal),
                Err(error) => return Err(first_error.unwrap_or(error)),
            }
        }
        // No rung works, so the fault may be temporary. The next attempt starts at the top rung again.
        self.state.lock().rung = 0;
        Err(first_error.unwrap_or_else(|| OpenError::Broken("no transport is available".into())))
    }

    /// When better rungs are tried again; `None` on the top rung.
    pub(super) fn climb_at(&self) -> Option<Instant> {
        self.state.lock().climb_at
    }

    /// Tries the rungs above the rung in use, the best first. Dropping the future cancels the attempt.
    pub(super) async fn climb(&self) -> Option<(usize, Opened)> {
        let current = self.state.lock().rung;
        for (index, rung) in self.rungs.iter().enumerate().take(current) {
            match rung.side.open(&rung.call).await {
                Ok(opened) => return Some((index, opened)),
                Err(error) => tracing::debug!(rung = rung.name, %error, "a better rung does not work yet"),
            }
        }
        let mut state = self.state.lock();
        state.climb_wait = (state.climb_wait * 2).min(defaults::CLIMB_MOST);
        state.climb_at = Some(Instant::now() + jittered(state.climb_wait));
        None
    }

    /// Makes the rung of a connection from [`Ladder::climb`] the rung in use.
    pub(super) fn climbed(&self, rung: usize) {
        let from = {
            let state = self.state.lock();
            (state.rung, state.climb_wait)
        };
        self.move_to(rung, "a better rung works again");
        self.state.lock().climbed_from = Some(from);
    }

    /// Notes the end of a connection. `early`: the connection broke right behind its 101, before it served a request.
    /// After two early ends in a row the agent moves one rung down. The first early end after a climb returns to the
    /// rung before the climb, which is known to work.
    pub(super) fn ended(&self, rung: usize, early: bool) {
        let below = {
            let mut state = self.state.lock();
            if rung != state.rung {
                return;
            }
            if let Some((below, waited)) = state.climbed_from.take().filter(|_| early) {
                drop(state);
                return self.fall_back(below, waited);
            }
            state.early_ends = if early { state.early_ends + 1 } else { 0 };
            (state.early_ends >= 2 && rung + 1 < self.rungs.len()).then_some(rung + 1)
        };
        if let Some(below) = below {
            self.move_to(below, "connections broke right after the 101");
        }
    }

    /// Returns to the rung before a failed climb, and doubles the wait before the next climb.
    fn fall_back(&self, below: usize, waited: Duration) {
        self.move_to(below, "a connection broke right after the 101");
        let mut state = self.state.lock();
        state.climb_wait = (waited * 2).min(defaults::CLIMB_MOST);
        state.climb_at = Some(Instant::now() + jittered(state.climb_wait));
    }

    fn move_to(&self, rung: usize, why: &str) {
        let mut state = self.state.lock();
        let from = std::mem::replace(&mut state.rung, rung);
        state.early_ends = 0;
        if rung < from || state.climb_at.is_none() {
            state.climb_wait = self.climb;
        }
        state.climb_at = (rung > 0).then(|| Instant::now() + jittered(state.climb_wait));
        drop(state);
        if rung != from {
            tracing::info!(rung = self.name(rung), from = self.name(from), why, "changed to another rung");
        }
    }
}

/// A random wait between half of `wait` and all of it.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)
}

fn is_cured_by_another(error: &OpenError) -> bool {
    matches!(error, OpenError::Absent { .. } | OpenError::Broken(_))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::domain::Offer;
    use crate::net::Io;
    use crate::net::dial::DialRoute;
    use crate::tls;
    use crate::transport::AgentCredentials;
    use crate::transport::AgentLink;

    type Answers = Arc<Mutex<VecDeque<Result<(), OpenError>>>>;

    /// A transport with prepared answers. After the last prepared answer, each open succeeds.
    struct PreparedAnswers(Answers);

    impl AgentSide for PreparedAnswers {
        fn open<'a>(&'a self, _: &'a Call) -> BoxFuture<'a, Result<Opened, OpenError>> {
            let answer = self.0.lock().pop_front().unwrap_or(Ok(()));
            let (near, _) = tokio::io::duplex(1);
            let link = AgentLink::Flipped { kind: Kind::H1, io: Io::other(near) };
            let opened = Opened { urls: vec![], warnings: vec![], connections: 1, link };
            Box::pin(std::future::ready(answer.map(|()| opened)))
        }
    }

    fn call(carriers: &[Kind]) -> Call {
        let tls = tls::client_config_for_none().unwrap();
        let relay = http::Uri::from_static("http://localhost");
        let (offer, carriers) = (Offer::default(), carriers.to_vec());
        let credentials = AgentCredentials::new(tls, None);
        Call { relay, credentials, offer, carriers, via: DialRoute::Direct }
    }

    fn ladder(count: usize) -> (Ladder, Vec<Answers>) {
        let call = call(&[]);
        let mut ladder = Ladder::new(&[], &call, true, defaults::CLIMB_FIRST);
        let names = ["top", "middle", "low"];
        let answers: Vec<_> = (0..count).map(|_| Answers::default()).collect();
        ladder.rungs = answers
            .iter()
            .zip(names)
            .map(|(a, name)| Rung { name, side: Box::new(PreparedAnswers(a.clone())), call: call.clone() })
            .collect();
        (ladder, answers)
    }

    #[test]
    fn rungs_with_upgrade_precede_polling_rungs_and_comet_is_last() {
        let all: Vec<_> = crate::transport::ALL.iter().copied().filter(|t| t.is_automatic()).collect();
        let ladder = Ladder::new(&all, &call(&Kind::PREFERRED), true, defaults::CLIMB_FIRST);
        let names: Vec<_> = ladder.rungs.iter().map(|rung| rung.name).collect();
        assert_eq!(names, ["ptth10", all[0].plain_name(), "reversehttp", "comet"]);
    }

    fn absent() -> Result<(), OpenError> {
        Err(OpenError::Absent { status: http::StatusCode::OK })
    }

    #[tokio::test(start_paused = true)]
    async fn the_ladder_descends_keeps_a_working_rung_and_climbs_back() {
        let (ladder, answers) = ladder(3);
        answers[0].lock().push_back(absent());
        answers[1].lock().push_back(Err(OpenError::Broken("reset".into())));
        assert_eq!(ladder.open().await.unwrap().0, 2);
        assert_eq!(ladder.open().await.unwrap().0, 2, "the rung that works is kept");

        let due = ladder.climb_at().unwrap() - Instant::now();
        assert!(due >= defaults::CLIMB_FIRST / 2 && due <= defaults::CLIMB_FIRST, "{due:?}");
        answers[0].lock().push_back(absent());
        answers[1].lock().push_back(absent());
        assert!(ladder.climb().await.is_none());
        assert!(ladder.climb_at().unwrap() - Instant::now() >= defaults::CLIMB_FIRST);

        answers[0].lock().push_back(absent());
        let (rung, _) = ladder.climb().await.unwrap();
        assert_eq!(rung, 1, "the best rung that works is used");
        ladder.climbed(rung);
        ladder.climbed(ladder.climb().await.unwrap().0);
        assert_eq!((ladder.open().await.unwrap().0, ladder.climb_at()), (0, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_climb_that_breaks_after_its_101_doubles_the_wait() {
        let (ladder, answers) = ladder(3);
        answers[0].lock().push_back(absent());
        answers[1].lock().push_back(absent());
        assert_eq!(ladder.open().await.unwrap().0, 2);
        for wait in [2, 4, 8].map(|times| times * defaults::CLIMB_FIRST) {
            let (rung, _) = ladder.climb().await.unwrap();
            ladder.climbed(rung);
            ladder.ended(rung, true);
            assert_eq!(ladder.open().await.unwrap().0, 2, "the rung before the climb is used");
            let due = ladder.climb_at().unwrap() - Instant::now();
            assert!(due >= wait / 2 && due <= wait, "{due:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_does_not_change_the_rung() {
        let (ladder, answers) = ladder(2);
        let status = http::StatusCode::FORBIDDEN;
        let refused = OpenError::Refused { status, message: "no".into(), retry_after: None };
        answers[0].lock().push_back(Err(refused));
        assert!(matches!(ladder.open().await, Err(OpenError::Refused { .. })));
        assert_eq!(ladder.open().await.unwrap().0, 0);
    }

    /// The error of the better rung names only a symptom: something on the way removes the Upgrade.
    #[tokio::test(start_paused = true)]
    async fn the_refusal_of_a_lower_rung_is_returned() {
        let (ladder, answers) = ladder(2);
        answers[0].lock().push_back(absent());
        let status = http::StatusCode::FORBIDDEN;
        let refused = OpenError::Refused { status, message: "try another --name".into(), retry_after: None };
        answers[1].lock().push_back(Err(refused));
        let error = ladder.open().await.err().unwrap();
        assert!(matches!(&error, OpenError::Refused { status, .. } if status.as_u16() == 403), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn two_early_ends_in_a_row_move_one_rung_down() {
        let (ladder, _) = ladder(2);
        ladder.ended(0, true);
        ladder.ended(0, false);
        ladder.ended(0, true);
        assert_eq!(ladder.open().await.unwrap().0, 0);
        ladder.ended(0, true);
        assert_eq!(ladder.open().await.unwrap().0, 1);
        ladder.ended(1, true);
        ladder.ended(1, true);
        assert_eq!(ladder.open().await.unwrap().0, 1, "there is no rung below the last");
    }

    #[tokio::test(start_paused = true)]
    async fn when_no_rung_works_the_first_error_is_returned() {
        let (ladder, answers) = ladder(2);
        answers[0].lock().push_back(absent());
        answers[1].lock().push_back(Err(OpenError::Broken("cut".into())));
        assert!(matches!(ladder.open().await, Err(OpenError::Absent { .. })));
    }
}

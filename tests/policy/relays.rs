//! An agent with several relays, some of which refuse it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use ptth::internals::agent::Fatal;
use ptth::internals::defaults;
use ptth::internals::domain::Secret;
use ptth::internals::net::Scope;
use ptth::internals::policy::Tokens;
use ptth::internals::session::Kind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::support::{AgentPlan, Plan, TestRelay, within};
use crate::ways::{NAME, echo, status};

/// A relay that refuses every agent, and is another relay once it is opened.
struct Refusing {
    address: SocketAddr,
    tries: Arc<Mutex<Vec<Instant>>>,
    open: Arc<AtomicBool>,
    scope: Scope,
}

impl Refusing {
    async fn start(status: u16, behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refusing = Self {
            address: listener.local_addr().unwrap(),
            tries: Arc::default(),
            open: Arc::default(),
            scope: Scope::new(),
        };
        let (tries, open) = (refusing.tries.clone(), refusing.open.clone());
        let scope = refusing.scope.clone();
        refusing.scope.spawn(async move {
            loop {
                let (mut agent, _) = listener.accept().await.unwrap();
                if open.load(Ordering::SeqCst) {
                    let mut relay = TcpStream::connect(behind).await.unwrap();
                    scope.spawn(async move {
                        // The connection may end in any way.
                        let _ = tokio::io::copy_bidirectional(&mut agent, &mut relay).await;
                    });
                } else {
                    tries.lock().push(Instant::now());
                    refuse(agent, status).await;
                }
            }
        });
        refusing
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    fn tries(&self) -> Vec<Instant> {
        self.tries.lock().clone()
    }
}

/// Answers one request as a relay of this project would.
async fn refuse(mut agent: TcpStream, status: u16) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(agent.read_u8().await.unwrap());
    }
    let body = r#"{"detail":"not you"}"#;
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status} No\r\nProxy-Status: ptth-relay\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    agent.write_all(answer.as_bytes()).await.unwrap();
}

fn agent(relays: &[String], token: Secret) -> AgentPlan {
    let mut plan = AgentPlan::new(&relays[0], NAME, token, "ptth10", Kind::H2);
    plan.config.relays = relays.iter().map(|url| url.parse().unwrap()).collect();
    plan
}

/// Runs a scenario whose hours pass at once.
fn run(scenario: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(scenario);
}

#[test]
fn an_agent_serves_through_the_relays_that_do_not_refuse_it() {
    for refusal in [400, 401, 403, 406, 409] {
        run(async {
            let tokens = Tokens::in_memory();
            let relay = || TestRelay::planned(Plan { tokens: tokens.clone(), cores: 0, ..Plan::default() });
            let (later, serving) = (relay(), relay());
            let refusing = Refusing::start(refusal, later.plain).await;
            let urls = [refusing.url(), format!("http://{}/", serving.plain)];
            let mut agent = agent(&urls, serving.token(&[NAME])).start(echo());
            within("connecting to the other relay", agent.connected()).await.expect("an admission");

            // The relay that refuses is tried again, ever more seldom.
            let tried = async {
                while refusing.tries().len() < 4 {
                    tokio::time::sleep(Duration::from_secs(1)).await
                }
            };
            tokio::select! {
                tried = tokio::time::timeout(10 * defaults::REFUSED_MOST, tried) => tried.expect("four tries"),
                ended = agent.ended() => panic!("{refusal}: the agent ended: {ended:?}"),
            }
            let tries = refusing.tries();
            let waits: Vec<_> = tries.windows(2).map(|two| two[1] - two[0]).collect();
            assert!(waits[0] >= defaults::REFUSED_FIRST / 2 && waits.is_sorted(), "{refusal}: {waits:?}");
            assert_eq!(status(&serving, "").await, 200, "{refusal}");

            // Once it takes the agent, both serve.
            refusing.open.store(true, Ordering::SeqCst);
            let mut state = agent.status()[0].clone();
            let taken =
                tokio::time::timeout(2 * defaults::REFUSED_MOST, state.wait_for(|s| s.connected)).await;
            assert!(taken.is_ok_and(|taken| taken.is_ok()), "{refusal}: the relay was not tried again");
            assert_eq!([status(&later, "").await, status(&serving, "").await], [200, 200], "{refusal}");
        });
    }
}

#[test]
fn an_agent_that_every_relay_refuses_ends() {
    run(async {
        let nowhere = ([127, 0, 0, 1], 1).into();
        let (one, two) = (Refusing::start(401, nowhere).await, Refusing::start(403, nowhere).await);
        let mut agent = agent(&[one.url(), two.url()], Secret::new("ptth_x_y")).start(echo());
        let refused = within("the refusal", agent.connected()).await;
        let Err(Fatal::Refused(why)) = &refused else { panic!("{refused:?}") };
        for part in [&one.url(), "(401)", &two.url(), "(403)"] {
            assert!(why.contains(part), "{part} is missing: {why}");
        }
        assert_eq!([one.tries().len(), two.tries().len()], [1, 1], "a relay was tried again");
    });
}

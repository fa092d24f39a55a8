//! What the registry costs with many names: `cargo bench --bench registry`.
//!
//! For 1,000, 10,000 and 100,000 names, each with one agent and one connection: the time of another registration
//! (claim, connection, its end) and of one look-up, the median of several rounds, and the ratio to the first size.
//! Instructions, which do not depend on the load of the machine, are counted by valgrind, if it is installed: each
//! figure is the difference of two runs that differ in the number of operations alone.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic when it cannot continue")]

use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use ptth::internals::domain::{AgentId, HostName, Route};
use ptth::internals::message::{Request, Response, interim};
use ptth::internals::registry::{Registry, Terms};
use ptth::internals::session::carrier::Carrier;
use ptth::internals::session::{Kind, SendError, SendErrorKind, Slot};

const SIZES: [usize; 3] = [1_000, 10_000, 100_000];
const ROUNDS: usize = 15;

/// A connection on which nothing is sent.
struct Silent;

impl Carrier for Silent {
    fn send(
        &self,
        request: Request,
        _: Slot,
        _: interim::Sender,
    ) -> BoxFuture<'_, Result<Response, SendError>> {
        let (kind, unsent) = (SendErrorKind::Closed, Some(Box::new(request)));
        Box::pin(std::future::ready(Err(SendError { kind, unsent, repeatable: None })))
    }

    fn capacity(&self) -> usize {
        1
    }

    fn drain(&self) {}

    fn is_late(&self) -> bool {
        false
    }

    fn is_closed(&self) -> bool {
        false
    }
}

fn host(number: usize) -> String {
    format!("name-{number}.relay.example")
}

fn register(registry: &Arc<Registry>, number: usize) -> impl Sized + use<> {
    let routes = [Route::Host(HostName::parse(&host(number)).unwrap())].into();
    let claim =
        registry.claim(&AgentId(format!("agent-{number}").into()), Terms { routes, ..Terms::default() });
    claim.unwrap().join(Box::new(Silent), (Kind::H2, ptth::internals::net::Core::default()))
}

/// A registry with so many names, and the connections that keep them in it.
fn filled(names: usize) -> (Arc<Registry>, Vec<impl Sized>) {
    let registry = Registry::new(Duration::from_secs(60));
    let connections = (0..names).map(|number| register(&registry, number)).collect();
    (registry, connections)
}

#[derive(Clone, Copy)]
enum Operation {
    Register,
    LookUp,
}

impl Operation {
    const ALL: [(&str, Self); 2] = [("registration", Self::Register), ("look-up", Self::LookUp)];

    fn run(self, registry: &Arc<Registry>, names: usize, times: usize) {
        match self {
            Self::Register => (0..times).for_each(|n| drop(register(registry, names + n))),
            Self::LookUp => {
                // Scattered over the table, with a period longer than the loop.
                let hosts = (0..times).map(|n| host(n * 7_919 % names)).collect::<Vec<_>>();
                let found = hosts.iter().filter(|host| registry.find_host(black_box(host)).is_some()).count();
                assert_eq!(found, times);
            }
        }
    }

    /// Nanoseconds of one operation.
    fn time(self, registry: &Arc<Registry>, names: usize) -> f64 {
        let times = 2_000;
        let hosts = (0..times).map(|n| host(n * 7_919 % names)).collect::<Vec<_>>();
        let mut rounds: Vec<_> = (0..ROUNDS)
            .map(|round| {
                let began = Instant::now();
                match self {
                    Self::Register => self.run(registry, names + round * times, times),
                    Self::LookUp => {
                        for host in &hosts {
                            black_box(registry.find_host(black_box(host)));
                        }
                    }
                }
                began.elapsed().as_nanos() as f64 / times as f64
            })
            .collect();
        rounds.sort_by(f64::total_cmp);
        rounds[ROUNDS / 2]
    }
}

/// The instructions of a run of this program with so many operations; `None` without valgrind.
fn instructions(operation: &str, names: usize, times: usize) -> Option<f64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["count", operation, &names.to_string(), &times.to_string()]);
    let report = String::from_utf8(command.output().ok()?.stderr).unwrap();
    let line = report.lines().find(|line| line.contains("I   refs:") || line.contains("I refs:"));
    let line = line.unwrap_or_else(|| panic!("valgrind reported no instructions: {report}"));
    Some(line.rsplit(':').next().unwrap().trim().replace(',', "").parse().unwrap())
}

fn table(unit: &str, cost: impl Fn(Operation, &str, usize) -> Option<f64>) {
    for (name, operation) in Operation::ALL {
        let Some(first) = cost(operation, name, SIZES[0]) else {
            return println!("{unit}: not counted, because valgrind is not installed");
        };
        for names in SIZES {
            let cost = if names == SIZES[0] { first } else { cost(operation, name, names).unwrap() };
            println!("{name}, {names:>7} names: {cost:>8.0} {unit}, {:.2} x", cost / first);
        }
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, _, operation, names, times] = &arguments[..]
        && arguments[1] == "count"
    {
        let (names, times) = (names.parse().unwrap(), times.parse().unwrap());
        let (registry, _connections) = filled(names);
        let (_, operation) = Operation::ALL.into_iter().find(|(name, _)| name == operation).unwrap();
        return operation.run(&registry, names, times);
    }
    table("ns", |operation, _, names| {
        let (registry, _connections) = filled(names);
        Some(operation.time(&registry, names))
    });
    table("instructions", |operation, name, names| {
        // The hash function is seeded at random, so filling the tables costs each run a little more or less. A look-up is
        // so cheap that only very many of them exceed that.
        let times = match operation {
            Operation::Register => 2_000,
            Operation::LookUp => 400_000,
        };
        let (few, many) = (instructions(name, names, 100)?, instructions(name, names, 100 + times)?);
        Some((many - few) / times as f64)
    });
}

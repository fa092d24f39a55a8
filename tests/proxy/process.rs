//! Programs that a test starts: what they print, line by line, and that they end with the test.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Nothing that a test waits for takes this long, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A running program. It is killed, by its own id, when the test drops it.
pub(crate) struct Process {
    what: String,
    child: Child,
    printed: Arc<(Mutex<Printed>, Condvar)>,
}

#[derive(Default)]
struct Printed {
    out: Vec<String>,
    /// Both streams.
    all: Vec<String>,
    open: usize,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let what = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("cannot start {what}: {error}; scripts/test installs what is missing")
        });
        let printed = Arc::new((Mutex::new(Printed { open: 2, ..Printed::default() }), Condvar::new()));
        follow(child.stdout.take().unwrap(), printed.clone(), true);
        follow(child.stderr.take().unwrap(), printed.clone(), false);
        Self { what, child, printed }
    }

    /// The line of stdout with this number, from 0.
    pub(crate) fn line(&self, number: usize) -> String {
        let found = self.wait(|printed| printed.out.get(number).cloned());
        found.unwrap_or_else(|| panic!("line {number} of stdout is missing; {self}"))
    }

    /// The first line with this text in it.
    pub(crate) fn logs(&self, text: &str) -> String {
        let found = self.wait(|printed| printed.all.iter().find(|line| line.contains(text)).cloned());
        found.unwrap_or_else(|| panic!("{text:?} was not logged; {self}"))
    }

    /// How many lines have this text in them so far.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.printed.0.lock().unwrap().all.iter().filter(|line| line.contains(text)).count()
    }

    /// Waits until more than `before` lines have this text in them.
    pub(crate) fn logs_again(&self, text: &str, before: usize) {
        let found = self.wait(|printed| {
            (printed.all.iter().filter(|line| line.contains(text)).count() > before).then_some(())
        });
        found.unwrap_or_else(|| panic!("{text:?} was not logged again; {self}"));
    }

    /// Sends it a signal by its name, such as `HUP`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let _ = Command::new("sh").args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &id]).status();
    }

    /// Asks it to end, and waits until it has closed its streams.
    pub(crate) fn end(&self) {
        self.signal("TERM");
        self.wait(|printed| (printed.open == 0).then_some(()));
    }

    fn wait<T>(&self, look: impl Fn(&Printed) -> Option<T>) -> Option<T> {
        let until = Instant::now() + PATIENCE;
        let mut printed = self.printed.0.lock().unwrap();
        loop {
            let found = look(&printed);
            let left = until.saturating_duration_since(Instant::now());
            if found.is_some() || printed.open == 0 || left.is_zero() {
                return found;
            }
            printed = self.printed.1.wait_timeout(printed, left).unwrap().0;
        }
    }
}

fn follow(pipe: impl Read + Send + 'static, printed: Arc<(Mutex<Printed>, Condvar)>, out: bool) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut printed_now = printed.0.lock().unwrap();
            if out {
                printed_now.out.push(line.clone());
            }
            printed_now.all.push(line);
            printed.1.notify_all();
        }
        printed.0.lock().unwrap().open -= 1;
        printed.1.notify_all();
    });
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n{}", self.what, self.printed.0.lock().unwrap().all.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that ran to its end.
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Outcome {
    pub(crate) fn of(command: &mut Command) -> Self {
        let what = format!("{command:?}");
        let done = command.stdin(Stdio::null()).output();
        let done =
            done.unwrap_or_else(|error| panic!("cannot start {what}: {error}; scripts/test installs it"));
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: done.status.code().unwrap(), out: text(done.stdout), err: text(done.stderr) }
    }
}

//! Programs that a test starts. Their output is collected line by line, and they end with the test.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Nothing that a test waits for takes this long, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A running program. It is killed, by its process id, when the test drops it.
pub(crate) struct Process {
    program: String,
    pub(crate) child: Child,
    pub(crate) out: Lines,
    pub(crate) err: Lines,
}

impl Process {
    /// Starts a program with nothing on its stdin.
    pub(crate) fn start(command: &mut Command) -> Self {
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("cannot start {program}: {error}; scripts/test installs what the tests need")
        });
        let out = Lines::of(child.stdout.take());
        let err = Lines::of(child.stderr.take());
        Self { program, child, out, err }
    }

    /// The line of stdout with this number, from 0.
    pub(crate) fn line(&self, number: usize) -> String {
        let found = self.out.wait(|lines| lines.get(number).cloned());
        found.unwrap_or_else(|| panic!("line {number} of stdout is missing; {self}"))
    }

    /// The first line of stderr with this text in it.
    pub(crate) fn logs(&self, text: &str) -> String {
        self.logs_times(text, 1)
    }

    /// The line of stderr in which this text stands for the `times`th time.
    pub(crate) fn logs_times(&self, text: &str, times: usize) -> String {
        let nth = |lines: &[String]| lines.iter().filter(|line| line.contains(text)).nth(times - 1).cloned();
        self.err.wait(nth).unwrap_or_else(|| panic!("{text:?} was not logged {times} times; {self}"))
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (out, err) = (self.out.all().join("\n"), self.err.all().join("\n"));
        write!(f, "{}\n--- stdout\n{out}\n--- stderr\n{err}\n---", self.program)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines that a program has printed so far.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<(Mutex<Printed>, Condvar)>);

#[derive(Default)]
struct Printed {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let lines = Self::default();
        let writer = lines.clone();
        let pipe = pipe.unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                writer.0.0.lock().unwrap().lines.push(line);
                writer.0.1.notify_all();
            }
            writer.0.0.lock().unwrap().ended = true;
            writer.0.1.notify_all();
        });
        lines
    }

    /// Everything so far.
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().lines.clone()
    }

    /// Waits until `look` returns a value; `None` after [`PATIENCE`], and when no more lines can follow.
    pub(crate) fn wait<T>(&self, look: impl Fn(&[String]) -> Option<T>) -> Option<T> {
        let until = Instant::now() + PATIENCE;
        let mut printed = self.0.0.lock().unwrap();
        loop {
            let found = look(&printed.lines);
            let left = until.saturating_duration_since(Instant::now());
            if found.is_some() || printed.ended || left.is_zero() {
                return found;
            }
            printed = self.0.1.wait_timeout(printed, left).unwrap().0;
        }
    }
}

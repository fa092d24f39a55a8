//! The services of one agent process. A changed file starts, replaces and stops services; all others go on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::report::{self, Report};
use super::services::{self, AgentService};
use super::{prepare, serve};
use crate::cli::Failure;
use crate::cli::access::Access;
use crate::cli::running::{Signalled, Signals};
use crate::net::Cores;
use crate::tls::files;

/// How often the file is checked for changes: a person sees the effect of a change about as soon as it is saved.
const CHECK: Duration = Duration::from_secs(1);
/// Requests to a service to read its files again. A further request would have the same effect.
const RELOADS: usize = 1;

/// The file of the services, and which of them run.
pub(super) struct ServicesFile {
    pub(super) path: PathBuf,
    /// The names of the services that run; all, if empty.
    pub(super) selected: Vec<String>,
}

impl ServicesFile {
    /// Reads the selected services.
    ///
    /// # Errors
    /// [`Failure`] with code 2.
    pub(super) fn load(&self) -> Result<Vec<AgentService>, Failure> {
        let mut all = services::load(&self.path)?;
        let has = |name: &String| all.iter().any(|service| service.name.as_ref() == Some(name));
        if let Some(missing) = self.selected.iter().find(|name| !has(name)) {
            let names: Vec<_> = all.iter().filter_map(|service| service.name.as_deref()).collect();
            return Err(Failure::usage(format!(
                "{} has no service {missing}; it has {}",
                self.path.display(),
                names.join(", ")
            )));
        }
        let is_selected =
            |service: &AgentService| service.name.as_ref().is_some_and(|name| self.selected.contains(name));
        all.retain(|service| self.selected.is_empty() || is_selected(service));
        Ok(all)
    }
}

/// Notices that the file has changed.
struct ServicesWatch {
    file: ServicesFile,
    contents: Option<Vec<u8>>,
    tick: Interval,
}

impl ServicesWatch {
    fn new(file: ServicesFile) -> Self {
        let contents = files::read(&file.path).ok();
        let mut tick = tokio::time::interval_at(Instant::now() + CHECK, CHECK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { file, contents, tick }
    }

    /// Resolves when the file has other contents than before. Cancel safe.
    async fn changed(&mut self) {
        loop {
            self.tick.tick().await;
            let contents = files::read(&self.file.path).ok();
            // An editor may write the file in two steps, so a file that is missing is not a change.
            if contents.is_some() && contents != self.contents {
                self.contents = contents;
                return;
            }
        }
    }
}

/// The end of a service: the number of connections that were cut, or why it could not go on.
struct ServiceEnd {
    name: Option<String>,
    generation: u64,
    result: Result<usize, Failure>,
}

struct RunningService {
    service: AgentService,
    /// Distinguishes this service from an earlier service of the same name, which may still be stopping.
    generation: u64,
    /// Requests to read files again. Dropping the sender stops the service.
    reloads: mpsc::Sender<()>,
}

/// The running services.
pub(super) struct Fleet<'a> {
    report: report::Args,
    access: &'a Access,
    cores: Cores,
    running: BTreeMap<Option<String>, RunningService>,
    /// Services that start when their predecessors, which use the same identity, have ended.
    waiting: BTreeMap<Option<String>, AgentService>,
    ends: FuturesUnordered<LocalBoxFuture<'a, ServiceEnd>>,
    generations: u64,
}

impl<'a> Fleet<'a> {
    pub(super) fn new(report: report::Args, access: &'a Access, cores: Cores) -> Self {
        Self {
            report,
            access,
            cores,
            running: BTreeMap::new(),
            waiting: BTreeMap::new(),
            ends: FuturesUnordered::new(),
            generations: 0,
        }
    }

    /// Runs until a signal to stop, or until the last service has failed.
    ///
    /// # Errors
    /// [`Failure`] of the last service, or of any service that cannot be started at first.
    pub(super) async fn run(
        mut self,
        services: Vec<AgentService>,
        file: Option<ServicesFile>,
    ) -> Result<(), Failure> {
        let mut signals = Signals::listen()?;
        for service in services {
            self.start(service)?;
        }
        let mut watch = file.map(ServicesWatch::new);
        loop {
            let changed = async {
                match &mut watch {
                    Some(watch) => watch.changed().await,
                    None => std::future::pending().await,
                }
            };
            let reread = tokio::select! {
                biased;
                signal = signals.next() => match signal {
                    Signalled::Stop => break,
                    Signalled::Reload => {
                        self.reload();
                        true
                    }
                },
                Some(end) = self.ends.next() => {
                    self.ended(end)?;
                    false
                }
                () = changed => true,
            };
            if let Some(watch) = watch.as_ref().filter(|_| reread) {
                self.update(&watch.file);
            }
        }
        tracing::info!("stopping: the relay is notified, and requests in flight finish");
        signals.wait_for_stop(self.stop()).await;
        Ok(())
    }

    fn start(&mut self, service: AgentService) -> Result<(), Failure> {
        let name = service.name.clone();
        let prepared = prepare(&service.target, service.args.clone()).map_err(|failure| match &name {
            Some(name) => Failure { message: format!("service {name}: {failure}"), ..failure },
            None => failure,
        })?;
        self.generations += 1;
        let (generation, (reloads, requested)) = (self.generations, mpsc::channel(RELOADS));
        let report = Report { args: self.report, service: name.clone() };
        let serving = serve(prepared, report, self.access, self.cores.clone(), requested);
        let end = async move { ServiceEnd { name, generation, result: serving.await } };
        self.ends.push(Box::pin(end));
        self.running.insert(service.name.clone(), RunningService { service, generation, reloads });
        Ok(())
    }

    /// Reads the access log's file, CAs and tokens again.
    fn reload(&self) {
        self.access.reopen();
        for running in self.running.values() {
            // A full queue has a request already.
            let _ = running.reloads.try_send(());
        }
    }

    /// Brings the services to the state of the file. A file with a fault changes nothing.
    fn update(&mut self, file: &ServicesFile) {
        let services = match file.load() {
            Ok(services) => services,
            Err(failure) => return tracing::error!("{failure}; the services go on as they were"),
        };
        let removed: Vec<_> = self
            .running
            .keys()
            .filter(|name| !services.iter().any(|service| service.name == **name))
            .cloned()
            .collect();
        for name in removed {
            tracing::info!(service = name, "the service is no longer in the file: stopping");
            self.waiting.remove(&name);
            self.running.remove(&name);
        }
        for service in services {
            match self.running.get(&service.name) {
                Some(running) if running.service.is_same(&service) => {}
                Some(_) => {
                    tracing::info!(service = service.name, "the service has changed: starting it again");
                    self.replace(service);
                }
                None => match self.waiting.get_mut(&service.name) {
                    Some(waiting) => *waiting = service,
                    None => {
                        tracing::info!(service = service.name, "the service does not run: starting");
                        self.start_or_log(service);
                    }
                },
            }
        }
    }

    /// The old service finishes its requests in flight while the new one serves, unless both use one identity.
    fn replace(&mut self, service: AgentService) {
        let name = service.name.clone();
        match service.args.state.is_some() {
            true => {
                self.running.remove(&name);
                self.waiting.insert(name, service);
            }
            false => {
                let old = self.running.remove(&name);
                if let (false, Some(old)) = (self.start_or_log(service), old) {
                    self.running.insert(name, old);
                }
            }
        }
    }

    fn start_or_log(&mut self, service: AgentService) -> bool {
        let started = self.start(service);
        if let Err(failure) = &started {
            tracing::error!("{failure}");
        }
        started.is_ok()
    }

    /// # Errors
    /// The failure of the last service.
    fn ended(&mut self, end: ServiceEnd) -> Result<(), Failure> {
        if self.running.get(&end.name).is_some_and(|running| running.generation == end.generation) {
            self.running.remove(&end.name);
        }
        if let Some(service) = self.waiting.remove(&end.name) {
            self.start_or_log(service);
        }
        match end.result {
            Err(failure) if self.running.is_empty() => Err(failure),
            Err(failure) => {
                tracing::error!(service = end.name, "the service has ended: {failure}");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Stops all services. Returns the number of connections that were cut.
    async fn stop(mut self) -> usize {
        self.running.clear();
        let mut cut = 0;
        while let Some(end) = self.ends.next().await {
            cut += end.result.unwrap_or_default();
        }
        cut
    }
}

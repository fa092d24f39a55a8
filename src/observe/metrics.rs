//! Counters of one relay, in the OpenMetrics text format. Counting is one atomic addition.

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::exchange::{Exchange, Fault, Party, Sink};
use super::limit_counters::{Label, LimitCounters};
use super::limits::{Limit, LimitObserver};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CarrierLabels {
    transport: &'static str,
    carrier: &'static str,
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// See the module.
pub struct Metrics {
    registry: Registry,
    answers: [Counter; 5],
    agent_answers: [Counter; 5],
    failures: Family<CodeLabels, Counter>,
    refusals: Family<CodeLabels, Counter>,
    agent_connections: Family<CarrierLabels, Gauge>,
    visitor_connections: Gauge,
    lingering_connections: Gauge,
    certificate_reload_failures: Counter,
    limits: LimitCounters,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("ptth");
        let answers = Family::<StatusLabels, Counter>::default();
        let agent_answers = Family::<StatusLabels, Counter>::default();
        let limits = Family::<Label, Counter>::default();
        let by_class = |family: &Family<StatusLabels, Counter>| {
            CLASSES.map(|class| family.get_or_create(&StatusLabels { class }).clone())
        };
        let metrics = Self {
            answers: by_class(&answers),
            agent_answers: by_class(&agent_answers),
            failures: Family::default(),
            refusals: Family::default(),
            agent_connections: Family::default(),
            visitor_connections: Gauge::default(),
            lingering_connections: Gauge::default(),
            certificate_reload_failures: Counter::default(),
            limits: LimitCounters::new(&limits),
            registry: Registry::default(),
        };
        registry.register("answers", "Answers to visitors, by class of status", answers);
        registry.register(
            "agent_answers",
            "Answers to agents' own requests: registrations, polls, posted answers",
            agent_answers,
        );
        registry.register(
            "failures",
            "Requests of visitors that the relay refused or that no agent answered, by reason",
            metrics.failures.clone(),
        );
        registry.register(
            "refusals",
            "Requests of agents that were refused, by reason",
            metrics.refusals.clone(),
        );
        registry.register(
            "agent_connections",
            "Open connections of agents",
            metrics.agent_connections.clone(),
        );
        registry.register(
            "visitor_connections",
            "Open public connections",
            metrics.visitor_connections.clone(),
        );
        registry.register(
            "lingering_connections",
            "Public connections whose visitor has its last answer and still sends an upload, which is discarded",
            metrics.lingering_connections.clone(),
        );
        registry.register(
            "certificate_reload_failures",
            "Files of certificates and CAs that changed and could not be loaded",
            metrics.certificate_reload_failures.clone(),
        );
        registry.register("limits_reached", "How often a limit took effect, by limit", limits);
        Self { registry, ..metrics }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Metrics that include the number of lines that an access log drops.
    pub fn with_dropped(dropped: Option<Arc<AtomicU64>>) -> Self {
        let mut metrics = Self::default();
        if let Some(dropped) = dropped {
            metrics.registry.register_collector(Box::new(DroppedLines(dropped)));
        }
        metrics
    }

    /// Counts a request of an agent that was refused, by its reason.
    pub fn refused(&self, code: &'static str) {
        self.refusals.get_or_create(&CodeLabels { code }).inc();
    }

    /// Counts a changed file of certificates or CAs that could not be loaded.
    pub fn certificate_reload_failed(&self) {
        self.certificate_reload_failures.inc();
    }

    /// Counts a visitor's connection until the guard is dropped.
    pub fn visitor_connected(&self) -> Counted {
        Counted::new(self.visitor_connections.clone())
    }

    /// Counts a connection that lingers until the guard is dropped.
    pub fn visitor_lingers(&self) -> Counted {
        Counted::new(self.lingering_connections.clone())
    }

    /// Counts an agent's connection until the guard is dropped.
    pub fn agent_connected(&self, transport: &'static str, carrier: &'static str) -> Counted {
        Counted::new(self.agent_connections.get_or_create(&CarrierLabels { transport, carrier }).clone())
    }

    /// The OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl Sink for Metrics {
    /// Counts a request that has ended: its answer, and the reason if the relay or the agent caused its failure.
    fn ended(&self, exchange: &Exchange) {
        let counters = match exchange.party {
            Party::Visitor => &self.answers,
            Party::Agent => &self.agent_answers,
        };
        let class = exchange.status.and_then(|status| usize::from(status.as_u16() / 100).checked_sub(1));
        if let Some(counter) = class.and_then(|index| counters.get(index)) {
            counter.inc();
        }
        if let Some(Fault { hop: "relay" | "agent", code: Cow::Borrowed(code) }) = exchange.fault
            && exchange.party == Party::Visitor
        {
            self.failures.get_or_create(&CodeLabels { code }).inc();
        }
    }
}

impl LimitObserver for Metrics {
    fn reached(&self, limit: Limit, by: &dyn Display) {
        self.limits.reached(limit, by);
    }
}

/// The number of dropped lines of an access log, which the log itself counts.
#[derive(Debug)]
struct DroppedLines(Arc<AtomicU64>);

impl Collector for DroppedLines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let counter = ConstCounter::new(self.0.load(Ordering::Relaxed));
        let help = "Lines of the access log that were dropped because they were not written fast enough.";
        let encoder = encoder.encode_descriptor("access_log_dropped", help, None, counter.metric_type())?;
        counter.encode(encoder)
    }
}

/// A guard that a gauge counts until the guard is dropped.
pub struct Counted(Gauge);

impl Counted {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::observe::exchange::{Observers, Recording, RequestId};

    #[test]
    fn dropped_lines_are_counted_under_their_name() {
        let text = Metrics::with_dropped(Some(Arc::new(AtomicU64::new(3)))).text();
        assert!(text.contains("\nptth_access_log_dropped_total 3\n"), "{text}");
    }

    #[test]
    fn the_text_contains_every_count() {
        let metrics = Metrics::default();
        let metrics = Arc::new(metrics);
        let observers = Arc::new(Observers { metrics: Some(metrics.clone()), ..Observers::default() });
        for party in [Party::Visitor, Party::Agent] {
            let mut recording = Recording::open(&observers, RequestId::draw());
            recording.exchange().party = party;
            recording.record_status(StatusCode::NOT_FOUND);
            recording.record_failure("relay", "no-agent");
        }
        metrics.certificate_reload_failed();
        metrics.reached(Limit::Head, &"192.0.2.1:1");
        metrics.reached(Limit::Head, &"192.0.2.1:2");
        let connection = metrics.agent_connected("ptth10", "h2");
        let text = metrics.text();
        for line in [
            "ptth_answers_total{class=\"4xx\"} 1",
            "ptth_agent_answers_total{class=\"4xx\"} 1",
            "ptth_certificate_reload_failures_total 1",
            "ptth_failures_total{code=\"no-agent\"} 1",
            "ptth_limits_reached_total{limit=\"head\"} 2",
            "ptth_limits_reached_total{limit=\"idle\"} 0",
            "ptth_agent_connections{transport=\"ptth10\",carrier=\"h2\"} 1",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        drop(connection);
        assert!(metrics.text().contains("carrier=\"h2\"} 0"));
    }
}

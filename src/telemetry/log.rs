//! Logging: JSON for machines, lines for people, to stderr.
//!
//! No colour is ever written, so `NO_COLOR` and pipes need nothing. Control characters in untrusted text
//! are escaped by tracing-subscriber (at least 0.3.20; RUSTSEC-2025-0055).

use super::TelemetryError;
use crate::{
    config::{LogFormat, LogSettings},
    domain::{Revision, WorkloadId},
};
use std::io::{self, IsTerminal};
use tracing::{Span, Subscriber};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter, util::SubscriberInitExt};

/// Begins logging for this process, to stderr.
///
/// # Errors
/// The filter cannot be read, or a logger is there already.
pub fn init(settings: &LogSettings) -> Result<(), TelemetryError> {
    let json = is_json(settings.format, io::stderr().is_terminal());
    subscriber(settings, json, io::stderr)?.try_init().map_err(|e| TelemetryError::Log(e.to_string()))
}

fn is_json(format: LogFormat, terminal: bool) -> bool {
    match format {
        LogFormat::Json => true,
        LogFormat::Pretty => false,
        LogFormat::Auto => !terminal,
    }
}

fn subscriber<W>(
    settings: &LogSettings,
    json: bool,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // kube logs each refused connection as an error of its own; whoever asked says it better.
    let filter = EnvFilter::try_new(format!("kube_client::client::builder=off,{}", settings.level))
        .map_err(|e| TelemetryError::Filter { level: settings.level.clone(), why: e.to_string() })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false);
    Ok(if json {
        Box::new(builder.json().flatten_event(true).with_current_span(true).with_span_list(false).finish())
    } else {
        Box::new(builder.with_target(false).finish())
    })
}

/// The span of one trial: every line inside it names the workload and the revision.
pub fn trial_span(workload: &WorkloadId, revision: &Revision) -> Span {
    tracing::info_span!(
        "trial",
        namespace = %workload.namespace,
        kind = workload.kind.as_str(),
        workload = %workload.name,
        revision = %revision
    )
}

/// The span of one incident: every line inside it names the incident, the workload and the bad revision.
pub fn incident_span(incident: &str, workload: &WorkloadId, revision: &Revision) -> Span {
    tracing::info_span!(
        "incident",
        incident,
        namespace = %workload.namespace,
        kind = workload.kind.as_str(),
        workload = %workload.name,
        revision = %revision
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Kind;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool, level: &str, act: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let settings = LogSettings { level: level.into(), ..LogSettings::default() };
        let subscriber = subscriber(&settings, json, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, act);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn decide() {
        let workload = WorkloadId::new("prod", Kind::Deployment, "api");
        let _inside = incident_span("api-1", &workload, &"abc".into()).entered();
        tracing::info!(verdict = "fail(errors)", "decided: \u{1b}[31mred\nnext");
        tracing::debug!("hidden");
    }

    #[test]
    fn json_is_one_object_a_line_with_the_span_fields() {
        let text = logged(true, "info", decide);
        assert_eq!(text.lines().count(), 1, "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["verdict"], "fail(errors)");
        assert_eq!(value["span"]["incident"], "api-1");
        assert_eq!(value["span"]["namespace"], "prod");
        assert_eq!(value["span"]["workload"], "api");
        assert_eq!(value["span"]["revision"], "abc");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn lines_for_people_have_no_escape_sequences() {
        let text = logged(false, "info", decide);
        assert!(text.contains("decided") && text.contains("api-1"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
        assert!(!text.contains("hidden"));
    }

    #[test]
    fn auto_is_json_unless_a_person_looks() {
        assert!(is_json(LogFormat::Auto, false));
        assert!(!is_json(LogFormat::Auto, true));
        assert!(is_json(LogFormat::Json, true));
        assert!(!is_json(LogFormat::Pretty, false));
    }

    #[test]
    fn a_broken_filter_is_named() {
        let settings = LogSettings { level: "lastgood=loud".into(), ..LogSettings::default() };
        let error = subscriber(&settings, true, io::stderr).err().unwrap().to_string();
        assert!(error.contains("lastgood=loud"), "{error}");
    }
}

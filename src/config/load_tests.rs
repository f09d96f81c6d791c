use super::*;
use crate::config::{NotifierKind, Switch};
use proptest::prelude::*;
use std::time::Duration;

fn parse(text: &str, env: &[(&str, &str)]) -> Result<Settings, String> {
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Settings::parse("lastgood.yaml", text, env).map_err(|f| f.to_string())
}

const FULL: &str = "
environment: 08e5
cluster: 1.10
listen: 0.0.0.0:9000
interval: 5s
namespace: lastgood
namespaces: [a, b]
leaderElection: false
thresholds: t.yaml
log: {format: json, level: 'lastgood=debug,info'}
reports: {folder: /tmp/x}
sources:
  prometheus:
    url: https://prometheus.example:9090/prefix
    timeout: 4s
    username: u
    passwordFile: /run/p
    headers: {X-Scope-OrgID: 007}
    caFile: /ca
    certFile: /c
    keyFile: /k
    maxBytes: 1048576
    maxSeries: 1000
  scrape: {enabled: on, timeout: 1s, concurrency: 4, maxBytes: 4096}
  health: {concurrency: 3, clusterDomain: corp.local}
notifiers:
- {name: hook, type: webhook, urlFile: /u, secretFile: /s, timeout: 2s}
- {name: chat, type: slack, urlFile: /v}
";

#[test]
fn every_setting_is_read_and_the_layers_change_no_text() {
    let s = parse(FULL, &[]).unwrap();
    assert_eq!((s.environment.as_str(), s.cluster.as_deref()), ("08e5", Some("1.10")), "as spelled");
    assert_eq!(s.interval, Duration::from_secs(5));
    assert_eq!((s.leader_election, s.namespaces.len()), (false, 2));
    let p = s.sources.prometheus.as_ref().unwrap();
    assert_eq!((p.headers["X-Scope-OrgID"].as_str(), p.max_series), ("007", 1000));
    assert_eq!((s.sources.scrape.enabled, s.sources.scrape.concurrency), (Switch::On, 4));
    assert_eq!((s.notifiers[1].kind, s.notifiers[1].timeout), (NotifierKind::Slack, Duration::from_secs(10)));
    // What `config` makes of the layers is what our own decoder makes of them.
    let mut faults = Faults::default();
    let mut tree = Node::parse("t", FULL, &mut faults).unwrap();
    assert_eq!(decode::<Settings>("t", &mut tree, &mut faults), Some(s));
    assert_eq!(faults, Faults::default());
}

#[test]
fn no_file_or_an_empty_one_means_the_defaults() {
    for text in ["", "# nothing\n", "{}"] {
        assert_eq!(parse(text, &[]).unwrap(), Settings::default());
    }
}

#[test]
fn variables_win_over_the_file() {
    let s = parse(
        FULL,
        &[
            ("LASTGOOD_INTERVAL", "30s"),
            ("LASTGOOD_SOURCES__PROMETHEUS__URL", "http://other:9090"),
            ("LASTGOOD_CLUSTER", "1.20"),
            ("LASTGOOD_NAMESPACES", "x"),
            ("LASTGOOD_LEADER_ELECTION", "true"),
            ("LASTGOOD_ENVIRONMENT", ""),
            ("LASTGOOD_SERVICE_HOST", "10.0.0.1"),
        ],
    )
    .unwrap();
    assert_eq!((s.interval, s.cluster.as_deref()), (Duration::from_secs(30), Some("1.20")));
    assert_eq!(s.sources.prometheus.unwrap().url, "http://other:9090");
    assert_eq!((s.namespaces, s.leader_election, s.environment.as_str()), (vec!["x".to_owned()], true, "08e5"));
    let alone = parse("", &[("LASTGOOD_SOURCES__PROMETHEUS__URL", "http://p:9090")]).unwrap();
    assert_eq!(alone.sources.prometheus.unwrap().timeout, Duration::from_secs(10), "defaults fill the rest");
}

#[test]
fn all_faults_of_file_and_environment_come_at_once() {
    let faults = parse(
        "intervall: 5s
interval: 5
listen: nowhere
environment: ../../etc
log: {format: xml}
sources:
  prometheus:
    url: http://user:hunter2@prometheus:9090
    headers: {Authorization: Bearer hunter2}
  scrape: {concurrency: 0}
notifiers:
- {name: a, type: webhook, urlFile: /u}
- {name: a, type: webhook, urlFile: /u}
- {name: b, type: webhook}
",
        &[
            ("LASTGOOD_SOURCES__SCRAPE__TIMEOUT", "5"),
            ("LASTGOOD_LOG__LEVLE", "info"),
            ("LASTGOOD_SOURCES__HEALTH__CONCURRENCY", "0"),
        ],
    )
    .unwrap_err();
    assert!(!faults.contains("hunter2"), "a fault never repeats a secret: {faults}");
    assert_eq!(
        faults,
        "environment: LASTGOOD_LOG__LEVLE is not a setting: did you mean LASTGOOD_LOG__LEVEL?
LASTGOOD_SOURCES__HEALTH__CONCURRENCY: sources.health.concurrency: 0 is out of range: write a number from 1 to 1024
LASTGOOD_SOURCES__SCRAPE__TIMEOUT: sources.scrape.timeout: \"5\" is not a duration: write a number with a unit: 500ms, 15s, 30m, 2h, 1d
lastgood.yaml:1:1: unknown key \"intervall\": did you mean \"interval\"?
lastgood.yaml:2:11: interval: \"5\" is not a duration: write a number with a unit: 500ms, 15s, 30m, 2h, 1d
lastgood.yaml:3:9: listen: \"nowhere\" is not an address: write an IP and a port: 127.0.0.1:9797
lastgood.yaml:4:14: environment: it stands in file names, so it must be 1 to 63 letters, digits, '-', '_' or '.': write a short name: production
lastgood.yaml:5:15: log.format: \"xml\" is not known here: one of auto, json, pretty
lastgood.yaml:8:10: sources.prometheus.url: credentials in a URL end up in logs: use username and passwordFile, or bearerTokenFile
lastgood.yaml:9:30: sources.prometheus.headers.Authorization: this header is a secret, and this file is not for secrets: use bearerTokenFile, or username and passwordFile
lastgood.yaml:10:25: sources.scrape.concurrency: 0 is out of range: write a number from 1 to 1024
lastgood.yaml:13:10: notifiers.1.name: two notifiers are named \"a\": give each its own name
lastgood.yaml:14:3: notifiers: the key \"urlFile\" is missing: add it"
    );
}

#[test]
fn values_that_cannot_work_are_refused() {
    for (text, says) in [
        ("interval: 500ms", "1:11: interval: 500ms is out of range: write a duration from 1s to 5m"),
        ("interval: 6m", "out of range"),
        ("sources: {prometheus: {url: ftp://x}}", "neither http nor https"),
        ("sources: {prometheus: {url: prometheus:9090}}", "neither http nor https"),
        ("sources: {prometheus: {url: 'http://x:9090/api/v1'}}", "without /api/v1"),
        ("sources: {prometheus: {url: 'http://x:9090/?a=b'}}", "query or a fragment"),
        ("sources: {prometheus: {url: 'not a url'}}", "this is not a URL"),
        ("sources: {prometheus: {timeout: 5s}}", "the key \"url\" is missing"),
        ("sources: {prometheus: {url: http://x, username: u}}", "need each other"),
        ("sources: {prometheus: {url: http://x, certFile: /c}}", "need each other"),
        (
            "sources: {prometheus: {url: http://x, username: u, passwordFile: /p, bearerTokenFile: /b}}",
            "one kind of authentication",
        ),
        ("namespaces: [Prod]", "1:14: namespaces.0: this is not the name of a namespace"),
        ("sources: {health: {clusterDomain: 'a..b'}}", "this is not a domain"),
        ("thresholds: ''", "the path is empty"),
        ("cluster:", "there is no value"),
        ("- a", "expected a mapping"),
        ("interval: 5s\ninterval: 6s\n", "stands here twice"),
    ] {
        let faults = parse(text, &[]).unwrap_err();
        assert!(faults.contains(says) && faults.lines().count() == 1, "{text}\n→ {faults}");
    }
}

#[test]
fn the_shipped_settings_are_the_defaults_and_name_every_key() {
    let shipped = include_str!("../../config/lastgood.yaml");
    assert_eq!(parse(shipped, &[]).unwrap(), Settings::default());
    let schema = crate::config::schema::settings_schema();
    let mut known = Vec::new();
    crate::config::schema::paths(&schema, &schema, "", &mut known);
    assert!(known.len() > 35, "{}", known.len());
    for path in known {
        let key = path.rsplit('.').next().unwrap();
        assert!(shipped.contains(&format!("{key}:")), "config/lastgood.yaml does not show {path}");
    }
}

#[test]
fn folder_or_file_may_be_named_and_what_is_named_must_be_there() {
    let none = || Vec::<(String, String)>::new();
    let dir = tempfile::tempdir().unwrap();
    let empty = Settings::load(Some(dir.path()), none()).unwrap();
    assert_eq!((empty.file, empty.settings), (None, Settings::default()));
    assert!(empty.notes[0].contains("lastgood.yaml, so the default settings hold"));
    assert_eq!(empty.thresholds, dir.path().join("thresholds.yaml"));

    let file = dir.path().join("lastgood.yaml");
    std::fs::write(&file, "interval: 7s\nthresholds: other.yaml\n").unwrap();
    for path in [dir.path(), &file] {
        let loaded = Settings::load(Some(path), none()).unwrap();
        assert_eq!(loaded.settings.interval, Duration::from_secs(7));
        assert_eq!((loaded.thresholds.clone(), loaded.thresholds_named), (dir.path().join("other.yaml"), true));
        let missing = loaded.load_thresholds().unwrap_err().to_string();
        assert!(missing.contains("other.yaml: cannot read it"), "{missing}");
    }
    std::fs::write(dir.path().join("other.yaml"), "apiVersion: lastgood.dev/v1\nkind: Thresholds\n").unwrap();
    let (t, text) = Settings::load(Some(&file), none()).unwrap().load_thresholds().unwrap();
    assert_eq!((*t.defaults).clone(), crate::domain::Rules::default());
    assert!(text.is_some());

    let gone = Settings::load(Some(&dir.path().join("gone")), none()).unwrap_err().to_string();
    assert!(gone.contains("gone: cannot read it: No such file") && gone.contains("--config"), "{gone}");
    std::fs::write(&file, [0xff, 0xfe]).unwrap();
    assert!(Settings::load(Some(&file), none()).unwrap_err().to_string().contains("not UTF-8 from byte 0"));
}

#[test]
fn header_values_are_not_in_debug() {
    let s = parse("sources: {prometheus: {url: http://x, headers: {X-Api-Key: s3cret}}}", &[]).unwrap();
    let debug = format!("{s:?}");
    assert!(debug.contains("X-Api-Key") && !debug.contains("s3cret"), "{debug}");
}

proptest! {
    #[test]
    fn no_text_and_no_variable_can_make_it_panic(text in any::<String>(), name in "[A-Z_0-9]{0,20}", value in any::<String>()) {
        let _ = parse(&text, &[]);
        let _ = parse("", &[(&format!("LASTGOOD_{name}"), &value)]);
        let _ = parse(&format!("interval: {text}"), &[("LASTGOOD_LISTEN", &value), ("LASTGOOD_SOURCES__PROMETHEUS__URL", &value)]);
    }
}

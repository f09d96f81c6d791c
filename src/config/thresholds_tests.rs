use super::*;
use crate::domain::{Brake, Mode, Owner, Preset, ProbeVia, Scheme, WorkloadId};
use proptest::prelude::*;
use std::time::Duration;

const HEAD: &str = "apiVersion: lastgood.dev/v1\nkind: Thresholds\n";

fn parse(body: &str) -> Result<Thresholds, String> {
    Thresholds::parse("thresholds.yaml", &format!("{HEAD}{body}")).map_err(|f| f.to_string())
}

fn faults(body: &str) -> String {
    parse(body).expect_err("the text has faults")
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn rules_for(t: &Thresholds, namespace: &str, labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> RulesFor {
    let (labels, annotations) = (pairs(labels), pairs(annotations));
    t.rules_for(&Facts { namespace, kind: Kind::Deployment, name: "api", labels: &labels, annotations: &annotations })
}

#[test]
fn every_key_is_read() {
    let t = parse(
        "defaults:
  mode: off
  watch: 1h30m
  minRequests: 500
  errors: {max: 2.5%}
  latency: {quantile: 0.99, maxIncrease: 20%, floor: 5ms}
  metrics:
    preset: custom
    port: 8080
    path: /actuator/prometheus
    custom: {requests: a, errors: b, latency: c}
  health:
  - {name: ready, port: 8080, path: /readyz}
  - {name: front, via: {service: web}, scheme: https, port: 443, path: /, timeout: 500ms}
  undo:
    maxPerWorkload: 2/2h
    maxPerNamespace: 4/20m
    maxPerCluster: 6/30m
    verifyWithin: 5m
    evictStuckPods: true
    allowOwners: [argo-cd, flux, flux-helm, argo-rollout, flagger, controller]
",
    )
    .unwrap();
    let r = &t.defaults;
    assert_eq!((r.policy.as_str(), r.mode, r.watch), ("defaults", Mode::Off, Duration::from_secs(5400)));
    assert_eq!(r.min_requests, 500);
    assert!((r.errors.max - 0.025).abs() < 1e-12);
    assert!((r.latency.quantile - 0.99).abs() < 1e-12 && (r.latency.max_increase - 0.2).abs() < 1e-12);
    assert_eq!(r.latency.floor, Duration::from_millis(5));
    assert_eq!(r.metrics.preset, Preset::Custom);
    assert_eq!((r.metrics.port, r.metrics.path.as_deref()), (Some(8080), Some("/actuator/prometheus")));
    let custom = r.metrics.custom.as_ref().unwrap();
    assert_eq!(
        (custom.requests.as_str(), custom.errors.as_deref(), custom.latency.as_deref()),
        ("a", Some("b"), Some("c"))
    );
    assert_eq!(r.health.len(), 2);
    assert_eq!((&r.health[0].via, r.health[0].scheme), (&ProbeVia::Pod, Scheme::Http));
    assert_eq!(r.health[0].timeout, Duration::from_secs(3));
    assert_eq!((&r.health[1].via, r.health[1].scheme), (&ProbeVia::Service("web".into()), Scheme::Https));
    assert_eq!(r.health[1].timeout, Duration::from_millis(500));
    assert_eq!(r.undo.max_per_workload, Brake { count: 2, window: Duration::from_secs(7200) });
    assert_eq!(r.undo.max_per_namespace, Brake { count: 4, window: Duration::from_secs(1200) });
    assert_eq!(r.undo.max_per_cluster, Brake { count: 6, window: Duration::from_secs(1800) });
    assert_eq!(r.undo.verify_within, Duration::from_secs(300));
    assert!(r.undo.evict_stuck_pods);
    assert_eq!(r.undo.allow_owners.len(), 6);
    assert!(!r.undo.allow_owners.contains(&Owner::Helm));
}

#[test]
fn policies_inherit_key_by_key_and_the_first_match_wins() {
    let t = parse(
        "defaults:
  errors: {max: 3%}
  latency: {floor: 7ms}
policies:
- name: api
  match: {namespaces: [production, 'team-*'], kinds: [Deployment], labels: {app: jarvis-api, version: 1.10, sha: 08e5}}
  mode: act
  latency: {maxIncrease: 0.2}
- name: rest
  match: {namespaces: [production]}
  errors: {max: 1%}
",
    )
    .unwrap();
    let labels = [("app", "jarvis-api"), ("version", "1.10"), ("sha", "08e5")];
    let api = rules_for(&t, "team-a", &labels, &[]).rules;
    assert_eq!((api.policy.as_str(), api.mode), ("api", Mode::Act));
    assert!((api.errors.max - 0.03).abs() < 1e-12 && (api.latency.max_increase - 0.2).abs() < 1e-12);
    assert_eq!(api.latency.floor, Duration::from_millis(7));
    assert_eq!(rules_for(&t, "production", &labels, &[]).rules.policy, "api");
    assert_eq!(rules_for(&t, "production", &[("app", "jarvis-api"), ("version", "1.1")], &[]).rules.policy, "rest");
    assert_eq!(rules_for(&t, "staging", &labels, &[]).rules.policy, "defaults");
}

#[test]
fn workloads_without_annotations_share_their_rules() {
    let t = parse("policies:\n- name: a\n  match: {}\n").unwrap();
    let (one, two) =
        (rules_for(&t, "x", &[], &[]), rules_for(&t, "y", &[], &[("team", "z"), ("lastgood.dev/undo", "u/h/i")]));
    assert!(Arc::ptr_eq(&one.rules, &two.rules) && Arc::ptr_eq(&one.rules, &t.policies[0].rules));
}

#[test]
fn all_faults_come_at_once_with_place_reason_and_remedy() {
    assert_eq!(
        faults(
            "defaults:
  mode: acct
  watch: 30
  errors: {maxx: 5%, max: 5}
  latency: {quantile: .nan, maxIncrease: 50, floor: -5ms}
  undo: {maxPerWorkload: 0/1h, maxPerCluster: 5}
policies:
- name: a
  match: {namespaces: production, kinds: [Pod]}
- name: a
  match: {names: [API]}
  health:
  - {name: x, port: http, path: /}
  - {name: y, port: 80, path: //evil, via: {service: x.kube-system}}
"
        ),
        r#"thresholds.yaml:4:9: defaults.mode: "acct" is not known here: did you mean "act"?
thresholds.yaml:5:10: defaults.watch: "30" is not a duration: write a number with a unit: 500ms, 15s, 30m, 2h, 1d
thresholds.yaml:6:12: unknown key "maxx": did you mean "max"?
thresholds.yaml:6:27: defaults.errors.max: "5" is not a share between 0 and 1: write 5% or 0.05
thresholds.yaml:7:23: defaults.latency.quantile: ".nan" is not a finite number: write a percentage like 5% or a share like 0.05
thresholds.yaml:7:42: defaults.latency.maxIncrease: "50" is not an increase above 0 % and up to 10000 %: write 50% or 0.5
thresholds.yaml:7:53: defaults.latency.floor: "-5ms" is not a duration: write a number with a unit: 500ms, 15s, 30m, 2h, 1d
thresholds.yaml:8:26: defaults.undo.maxPerWorkload: "0/1h" would never allow an undo: write mode: observe for that
thresholds.yaml:8:47: defaults.undo.maxPerCluster: "5" is not a brake: write at most so many in so long: 3/10m
thresholds.yaml:11:23: policies.match.namespaces: expected a list, found "production": write [production]
thresholds.yaml:11:43: policies.match.kinds: "Pod" is not known here: one of Deployment, StatefulSet, DaemonSet
thresholds.yaml:12:9: policy "a": two policies are named "a": give each its own name
thresholds.yaml:13:19: policies.match.names: "API" can never match a name: names have small letters, digits and '-', and may hold * and ? here
thresholds.yaml:15:21: policies.health.port: "http" is not a port: write a number from 1 to 65535
thresholds.yaml:16:31: policies.health.path: "//evil" is not the path of a URL: write it from the first slash on, without spaces: /healthz
thresholds.yaml:16:54: policies.health.via.service: "x.kube-system" is not the name of a Service: write its bare name, it is looked up in the workload's own namespace"#
    );
}

#[test]
fn a_file_that_is_not_ours_is_named_as_such() {
    let read = |text: &str| Thresholds::parse("t.yaml", text).unwrap_err().to_string();
    for empty in ["", "   \n", "# only a comment\n", "---\n", "\u{feff}"] {
        assert!(read(empty).contains("the file is empty"), "{empty:?}: {}", read(empty));
    }
    assert_eq!(
        read("apiVersion: lastgood.dev/v2\nkind: Treshholds\n"),
        "t.yaml:1:13: apiVersion is \"lastgood.dev/v2\", and this version of Lastgood reads \"lastgood.dev/v1\": write apiVersion: lastgood.dev/v1\n\
         t.yaml:2:7: kind is \"Treshholds\", and this version of Lastgood reads \"Thresholds\": write kind: Thresholds"
    );
    assert_eq!(
        read("defaults: {}\n"),
        "t.yaml:1:1: the key \"apiVersion\" is missing: write apiVersion: lastgood.dev/v1\n\
         t.yaml:1:1: the key \"kind\" is missing: write kind: Thresholds"
    );
    assert_eq!(read("just text"), "t.yaml:1:1: expected a mapping of keys to values, found \"just text\"");
    assert!(read("a: [1\nb: 2").contains("this is not valid YAML"));
    assert_eq!(
        read("apiVersion:\nkind: Thresholds\n"),
        "t.yaml:1:1: apiVersion: there is no value: write one, or remove the key"
    );
}

#[test]
fn keys_that_contradict_each_other_are_faults() {
    for (body, says) in [
        ("defaults:\n  metrics: {preset: custom}\n", "4:21: defaults: preset custom without queries measures nothing"),
        (
            "defaults:\n  metrics: {custom: {requests: a, errors: b}}\n",
            "another preset is in force: write preset: custom",
        ),
        ("defaults:\n  metrics: {preset: custom, custom: {requests: a}}\n", "can break no limit"),
        ("defaults:\n  undo: {allowOwners: [helm]}\n", "helm needs no permission"),
        ("defaults:\n  mode: act\n  undo: {verifyWithin: 2h}\n", "5:24: defaults: verifyWithin 2h is longer"),
        (
            "defaults:\n  undo: {maxPerWorkload: 9/10m, maxPerNamespace: 3/10m}\n",
            "maxPerWorkload 9/10m can never be reached",
        ),
        (
            "policies:\n- name: a\n  match: {kinds: [Deployment]}\n  undo: {evictStuckPods: true}\n",
            "policy \"a\": evictStuckPods is for StatefulSets",
        ),
        ("policies:\n- match: {}\n", "4:3: policy 1: a policy needs a name"),
        ("policies:\n- name: a\n", "a policy needs to say what it matches"),
        ("policies:\n- {name: defaults, match: {}}\n", "belongs to the defaults"),
        ("policies:\n- {name: a, match: {names: []}}\n", "an empty list of names matches nothing"),
        (
            "policies:\n- {name: a, match: {}}\n- {name: b, match: {names: [x]}}\n",
            "can never match, because \"a\" above it",
        ),
        (
            "defaults:\n  health: [{name: x, port: 1, path: /}, {name: x, port: 2, path: /}]\n",
            "two probes are named \"x\"",
        ),
        ("defaults:\n  health: [{name: x, path: /}]\n", "the key \"port\" is missing"),
        ("defaults:\n  mode: act\n  mode: off\n", "the key \"mode\" stands here twice"),
        ("defaults:\n", "defaults: there is no value"),
        ("defaults:\n  name: x\n", "unknown key \"name\""),
    ] {
        let faults = faults(body);
        assert!(faults.contains(says), "{body}\n→ {faults}");
        assert_eq!(faults.lines().count(), 1, "{body}\n→ {faults}");
    }
}

#[test]
fn annotations_win_over_policies() {
    let t = parse("policies:\n- name: a\n  match: {}\n  metrics: {port: 1}\n").unwrap();
    let r = rules_for(
        &t,
        "x",
        &[],
        &[
            ("lastgood.dev/mode", "act"),
            ("lastgood.dev/errors-max", "2%"),
            ("lastgood.dev/latency-max-increase", "0.25"),
            ("lastgood.dev/watch", "10m"),
            ("lastgood.dev/metrics-port", "9102"),
            ("lastgood.dev/metrics-path", "/m"),
            ("lastgood.dev/preset", "spring"),
            ("lastgood.dev/calls", "payments, bank/ledger,shop/Deployment/db "),
            ("lastgood.dev.example/mode", "nonsense"),
        ],
    );
    assert_eq!(r.faults, Vec::<String>::new());
    assert_eq!((r.rules.policy.as_str(), r.rules.mode, r.rules.watch), ("a", Mode::Act, Duration::from_secs(600)));
    assert!((r.rules.errors.max - 0.02).abs() < 1e-12 && (r.rules.latency.max_increase - 0.25).abs() < 1e-12);
    assert_eq!((r.rules.metrics.port, r.rules.metrics.path.as_deref()), (Some(9102), Some("/m")));
    assert_eq!(r.rules.metrics.preset, Preset::Spring);
    let calls: Vec<String> = r.rules.calls.iter().map(ToString::to_string).collect();
    assert_eq!(calls, ["payments", "bank/ledger", "shop/Deployment/db"]);
}

#[test]
fn who_is_called_is_named_as_shortly_as_it_can_be() {
    let t = parse("defaults: {calls: [db]}\npolicies:\n- {name: a, match: {names: [web]}, calls: [pay, x/sts/y]}\n");
    let web = WorkloadId::new("shop", Kind::Deployment, "web");
    let called = |rules: &Rules| {
        let stateful = |id: &WorkloadId| id.kind == Kind::StatefulSet && id.name == "db";
        rules.calls.iter().map(|callee| callee.of(&web, stateful).to_string()).collect::<Vec<_>>()
    };
    let t = t.unwrap();
    assert_eq!(called(&t.defaults), ["shop/StatefulSet/db"], "of the kinds that it may be, the one there is");
    assert_eq!(called(&t.policies[0].rules), ["shop/Deployment/pay", "x/StatefulSet/y"]);
    let many = (0..101).map(|i| format!("w{i}")).collect::<Vec<_>>().join(",");
    assert!(faults(&format!("defaults: {{calls: [{many}]}}\n")).contains("101 workloads are called, and 100"));
    let none = rules_for(&t, "x", &[], &[("lastgood.dev/calls", "")]);
    assert!(none.rules.calls.is_empty() && none.faults.is_empty(), "{none:?}");
}

#[test]
fn an_annotation_that_is_not_understood_takes_away_the_permission_to_act() {
    let t = parse("defaults: {mode: act}\n").unwrap();
    for (key, value, says) in [
        ("mode", "yes please", "\"yes please\" is not known here: write one of observe, act, off"),
        ("mode", "Act", "did you mean \"act\"?"),
        ("errors-max", "5", "is not a share between 0 and 1: write 5% or 0.05"),
        ("errors-max", "NaN", "not a finite number"),
        ("latency-max-increase", "-50%", "is not an increase"),
        ("watch", "30", "is not a duration"),
        ("metrics-port", "99999", "is not a port"),
        ("metrics-path", "http://169.254.169.254/", "is not the path of a URL"),
        ("preset", "custom", "needs queries, and the policy \"defaults\" has none"),
        ("preset", "istios", "did you mean \"istio\"?"),
        ("calls", "a/b/c/d", "\"a/b/c/d\" does not name a workload: write name, namespace/name or"),
        ("calls", "payments http://x", "does not name a workload"),
        ("call", "db", "did you mean lastgood.dev/calls?"),
        ("modee", "act", "did you mean lastgood.dev/mode?"),
        ("error-max", "2%", "did you mean lastgood.dev/errors-max?"),
    ] {
        let key = format!("lastgood.dev/{key}");
        let r = rules_for(&t, "x", &[], &[(key.as_str(), value)]);
        assert_eq!(r.rules.mode, Mode::Observe, "{key}: {value}");
        assert_eq!(r.faults.len(), 1, "{key}: {value}: {:?}", r.faults);
        assert!(
            r.faults[0].starts_with(&format!("annotation {key}: ")) && r.faults[0].contains(says),
            "{}",
            r.faults[0]
        );
        let expected = Rules { mode: Mode::Observe, ..Rules::clone(&t.defaults) };
        assert_eq!(*r.rules, expected, "the key is ignored");
    }
    let off = parse("defaults: {mode: off}\n").unwrap();
    assert_eq!(rules_for(&off, "x", &[], &[("lastgood.dev/watch", "?")]).rules.mode, Mode::Off, "observe at most");
    let armed = rules_for(&t, "x", &[], &[("lastgood.dev/mode", "act"), ("lastgood.dev/watch", "?")]);
    assert_eq!(armed.rules.mode, Mode::Observe);
}

#[test]
fn the_words_of_presets_are_those_of_the_type() {
    for word in crate::config::annotations::PRESETS {
        let t = parse(&format!("defaults:\n  metrics:\n    preset: {word}\n    custom: {{requests: a, errors: b}}\n"));
        assert_eq!(t.is_ok(), word == "custom", "{word}");
        assert!(!t.is_err_and(|e| e.contains("is not known here")), "{word}");
    }
}

#[test]
fn the_hash_is_of_the_text() {
    let (a, b) = (parse("").unwrap().hash(), parse("# x\n").unwrap().hash());
    assert_eq!(a.len(), 12);
    assert_ne!(a, b);
    assert_eq!(Thresholds::default().hash(), "e3b0c44298fc", "SHA-256 of nothing");
}

proptest! {
    #[test]
    fn no_text_can_make_it_panic(text in any::<String>()) {
        let _ = Thresholds::parse("t.yaml", &text);
        let _ = Thresholds::parse("t.yaml", &format!("{HEAD}{text}"));
    }

    #[test]
    fn no_mangled_file_can_make_it_panic(
        cut in 0usize..2000, insert in "[-:{}\\[\\]&*!|>'\"%@`,?# \n\ta-z0-9.é/]{0,12}", remove in 0usize..30,
    ) {
        let file = include_str!("../../config/thresholds.yaml");
        let at = |n: usize| (n.min(file.len())..=file.len()).find(|i| file.is_char_boundary(*i)).unwrap_or(file.len());
        let text = format!("{}{insert}{}", &file[..at(cut)], &file[at(cut + remove)..]);
        let _ = Thresholds::parse("t.yaml", &text);
    }

    #[test]
    fn no_annotation_can_make_it_panic_or_act_on_nonsense(
        key in prop_oneof![proptest::sample::select(crate::config::RULE_ANNOTATIONS.to_vec()).prop_map(str::to_owned), any::<String>()],
        value in prop_oneof![any::<String>(), "[0-9.%a-z/-]{0,12}"],
    ) {
        let t = Thresholds { defaults: Arc::new(Rules { mode: Mode::Act, ..Rules::default() }), ..Thresholds::default() };
        let r = rules_for(&t, "x", &[], &[(&format!("lastgood.dev/{key}"), &value)]);
        prop_assert!(r.faults.is_empty() || r.rules.mode != Mode::Act);
        prop_assert!(r.rules.errors.max > 0.0 && r.rules.errors.max < 1.0);
        prop_assert!(r.rules.latency.max_increase > 0.0 && r.rules.latency.max_increase.is_finite());
        prop_assert!(r.rules.watch >= Duration::from_secs(1));
    }
}

#[test]
fn severity_is_inherited_key_by_key() {
    let text = "apiVersion: lastgood.dev/v1\nkind: Thresholds\ndefaults:\n  severity: {high: {hotfixWindow: 10m}}\n\
                policies:\n- {name: a, match: {}, severity: {medium: {action: report}}}\n";
    let thresholds = Thresholds::parse("thresholds.yaml", text).unwrap();
    let none = std::collections::BTreeMap::new();
    let facts =
        Facts { namespace: "x", kind: crate::domain::Kind::Deployment, name: "y", labels: &none, annotations: &none };
    let severity = thresholds.rules_for(&facts).rules.severity;
    assert_eq!((severity.hotfix_window.as_secs(), severity.medium_is_told), (600, true));
    let wrong = text.replace("action: report", "action: ignore");
    assert!(Thresholds::parse("thresholds.yaml", &wrong).is_err());
}

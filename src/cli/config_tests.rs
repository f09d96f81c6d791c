use super::*;
use clap::Parser;

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    args: ConfigArgs,
}

/// Runs a command line on a folder; `DIR` in the outputs stands for the folder.
fn run_in(dir: &Path, line: &str, env: &[(&str, &str)]) -> (u8, String, String) {
    let words = ["config"].into_iter().chain(line.split_whitespace());
    let mut args = Program::try_parse_from(words).unwrap_or_else(|e| panic!("{e}")).args;
    args.location.path.get_or_insert_with(|| dir.to_owned());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let code = run(&args, env, &mut out, &mut err).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap().replace(&dir.display().to_string(), "DIR");
    (code, text(out), text(err))
}

fn folder(settings: &str, thresholds: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("lastgood.yaml"), settings).unwrap();
    std::fs::write(dir.path().join("thresholds.yaml"), thresholds).unwrap();
    dir
}

const TWO: &str = "apiVersion: lastgood.dev/v1
kind: Thresholds
policies:
- name: api
  match: {namespaces: [production], labels: {app: jarvis-api, version: 1.10}}
  mode: act
  errors: {max: 0.02}
- name: rest
  match: {}
";

#[test]
fn validate_says_ok_or_everything_that_is_wrong() {
    let dir = folder("interval: 5s\n", TWO);
    let (code, out, err) = run_in(dir.path(), "validate", &[]);
    let hash = Thresholds::parse("t", TWO).unwrap().hash();
    assert_eq!((code, out, err.as_str()), (0, format!("ok: 2 policies, hash {hash}\n"), ""));

    let dir = folder(
        "intervall: 5s\nlog: {level: ''}\n",
        "apiVersion: lastgood.dev/v1\nkind: Thresholds\ndefaults: {watch: 30}\n",
    );
    let (code, out, err) = run_in(dir.path(), "validate", &[("LASTGOOD_INTERVAL", "1h")]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(
        err,
        "LASTGOOD_INTERVAL: interval: 1h is out of range: write a duration from 1s to 5m
DIR/lastgood.yaml:1:1: unknown key \"intervall\": did you mean \"interval\"?
DIR/lastgood.yaml:2:14: log.level: the filter is empty: write error, warn, info, debug, trace, or a filter like lastgood=debug,info
DIR/thresholds.yaml:3:19: defaults.watch: \"30\" is not a duration: write a number with a unit: 500ms, 15s, 30m, 2h, 1d
4 faults
"
    );

    let empty = tempfile::tempdir().unwrap();
    let (code, out, err) = run_in(empty.path(), "validate", &[]);
    assert_eq!((code, out.as_str()), (0, "ok: 0 policies, hash e3b0c44298fc\n"));
    assert_eq!(
        err,
        "there is no DIR/lastgood.yaml, so the default settings hold\nthere is no DIR/thresholds.yaml, so the default thresholds hold\n"
    );
    let (code, _, err) = run_in(empty.path(), "validate --config /nowhere/at/all", &[]);
    assert_eq!(code, 1);
    assert!(err.starts_with("/nowhere/at/all: cannot read it: No such file"), "{err}");
}

#[test]
fn show_prints_what_is_in_force() {
    let dir = folder("cluster: 1.10\n", TWO);
    let (code, out, err) = run_in(dir.path(), "show", &[("LASTGOOD_INTERVAL", "20s")]);
    assert_eq!((code, err.as_str()), (0, ""));
    let (settings, thresholds) = out.split_once("---\n").unwrap();
    assert_eq!(Settings::parse("shown", settings, []).unwrap().interval.as_secs(), 20);
    assert_eq!(Settings::parse("shown", settings, []).unwrap().cluster.as_deref(), Some("1.10"));
    assert_eq!(Thresholds::parse("shown", thresholds).unwrap().policies, Thresholds::parse("t", TWO).unwrap().policies);

    let (_, json, _) = run_in(dir.path(), "show -o json", &[]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["thresholds"]["policies"][0]["errors"]["max"], "2%");
    assert_eq!(json["settings"]["interval"], "15s");
}

#[test]
fn show_effective_is_one_workload() {
    let dir = folder("", TWO);
    let (code, out, err) =
        run_in(dir.path(), "show --effective production/Deployment/api --labels app=jarvis-api,version=1.10", &[]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        out,
        "# production/Deployment/api: policy api of DIR/thresholds.yaml
mode: act
watch: 30m
lateWatch: 1d
minRequests: 300
errors:
  max: 2%
latency:
  quantile: 0.95
  maxIncrease: 50%
  floor: 20ms
metrics:
  preset: auto
calls: []
health: []
severity:
  high:
    hotfixWindow: 0ms
  medium:
    action: undo
undo:
  maxPerWorkload: 1/1h
  maxPerNamespace: 3/10m
  maxPerCluster: 5/10m
  verifyWithin: 10m
  evictStuckPods: false
  allowOwners: []
"
    );
    let line = "show --effective x/deploy/y --annotation lastgood.dev/mode=act --annotation lastgood.dev/watch=30";
    let (code, out, err) = run_in(dir.path(), line, &[]);
    assert_eq!(code, 0);
    assert!(
        out.starts_with("# x/Deployment/y: policy rest of DIR/thresholds.yaml\nmode: observe\nwatch: 30m\n"),
        "{out}"
    );
    assert_eq!(
        err,
        "annotation lastgood.dev/watch: \"30\" is not a duration: write a number with a unit: 500ms, 15s, 30m, 2h, 1d\n\
         with such annotations Lastgood observes at most\n"
    );
    let (code, _, err) = run_in(dir.path(), "show --effective x/deploy/y --labels nonsense", &[]);
    assert_eq!((code, err.as_str()), (2, "\"nonsense\" is not KEY=VALUE: write it like app=jarvis-api\n"));
    assert!(Program::try_parse_from(["config", "show", "--effective", "x/pod/y"]).is_err());
    assert!(Program::try_parse_from(["config", "show", "--labels", "a=b"]).is_err(), "labels of what?");
}

#[test]
fn explain_and_schema() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        run_in(dir.path(), "explain latency", &[]).1,
        "latency   (thresholds.yaml)
  The latency limit.

Keys
  floor         A quantile below this never breaks the limit.
  maxIncrease   How much slower it may get than the earlier revision: `50%` or `0.5`.
  quantile      Which quantile is compared: `0.95` is the 95th percentile.
"
    );
    assert_eq!(
        run_in(dir.path(), "explain mode", &[]).1,
        "mode   (thresholds.yaml)
  Whether to act: `observe` judges and reports, `act` also undoes, `off` does not look.

Values    observe, act, off
Default   observe
"
    );
    let (code, out, err) = run_in(dir.path(), "explain latency.quantil", &[]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(err, "there is no key \"latency.quantil\": did you mean \"latency.quantile\"?\n");
    let (code, out, _) = run_in(dir.path(), "schema", &[]);
    assert_eq!((code, out), (0, schema_json()));
}

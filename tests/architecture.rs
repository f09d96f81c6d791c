//! The architecture, held by reading the sources: what a pure file may name, which folder may use
//! which, who may write to a workload, and how long a file may get. `docs/architecture.md` tells why.
//!
//! The reading is by words, not by types: cheap, and enough to make a step over a line visible in
//! review. Code under `#[cfg(test)]` and files that hold only tests are left out. Every rule is shown
//! to fail by the snippets at the end.

use std::{fs, path::Path};

/// Places without IO, clock, logging and `async`, whatever their header says. Elsewhere a file is
/// pure when its header has a sentence that begins with "Pure".
const PURE: [&str; 7] =
    ["domain/", "analysis/", "config/units", "config/thresholds", "cluster/detect", "executor/gate", "executor/plan"];

/// Crates that do IO, tell time or log.
const IMPURE_CRATES: [&str; 14] = [
    "tokio",
    "kube",
    "reqwest",
    "tracing",
    "tracing_subscriber",
    "metrics",
    "metrics_exporter_prometheus",
    "prometheus_http_query",
    "hyper",
    "axum",
    "tower",
    "futures",
    "backon",
    "rand",
];
const IMPURE_STD: [&str; 5] = ["fs", "env", "process", "thread", "io"];
const IMPURE_WORDS: [&str; 8] =
    ["Instant", "SystemTime", "Clock", "TcpStream", "TcpListener", "UdpSocket", "ToSocketAddrs", "async"];

/// Which folder (or file) under `src/` may use which.
const ARROWS: [(&str, &[&str]); 19] = [
    ("domain", &[]),
    ("wire", &[]),
    // Knows Kubernetes and nothing of Lastgood, so that it cannot be kind to it.
    ("sim", &["wire"]),
    ("clock", &["domain"]),
    ("config", &["domain", "clock"]),
    ("analysis", &["domain"]),
    ("telemetry", &["domain", "config"]),
    ("sources", &["domain", "config", "clock", "telemetry", "wire"]),
    ("cluster", &["domain", "config", "clock", "telemetry"]),
    // `cluster` lends the deadlines and the words of history: a pin is one more piece of history.
    ("record", &["domain", "config", "clock", "telemetry", "cluster"]),
    ("report", &["domain", "config", "clock", "telemetry", "record", "wire"]),
    ("serve", &["domain", "config", "clock", "telemetry"]),
    ("watchdog", &["domain", "config", "clock", "telemetry", "analysis", "sources", "cluster"]),
    ("executor", &["domain", "config", "clock", "telemetry", "record", "cluster"]),
    // The daemon without a cluster: the pure parts of what decides and of what acts.
    ("replay", &["domain", "config", "analysis", "cluster", "record", "executor"]),
    // A judge among others: what it measures is what replays.
    ("bench", &["domain", "config", "analysis", "replay"]),
    ("app", ALL),
    ("cli", ALL),
    ("main", ALL),
];
const ALL: &[&str] = &[
    "domain",
    "clock",
    "wire",
    "sim",
    "config",
    "analysis",
    "telemetry",
    "sources",
    "cluster",
    "record",
    "report",
    "serve",
    "watchdog",
    "executor",
    "replay",
    "bench",
    "app",
    "cli",
];

/// Single words that may cross against the arrows, with the reason.
const WORDS: [(&str, &str, &str); 1] = [
    // The outcome of an incident is a metric label: a word without behaviour.
    ("telemetry", "record", "Phase"),
];

/// Who may name a write to the API server, and why.
const WRITERS: [(&str, Writes); 5] = [
    // The undo, the hand-back of its fields, the eviction of stuck pods.
    ("executor/", Writes::Workloads),
    // Incidents, pins and the Lease.
    ("record/", Writes::OwnObjects),
    // Events, and the delivery state of notices in the Incident.
    ("report/", Writes::OwnObjects),
    // A person's pause is one annotation under our own prefix, at their request and with their rights.
    ("cli/pause.rs", Writes::Workloads),
    // The simulated API server is what others write to; nothing of Lastgood is in there.
    ("sim/", Writes::Workloads),
];

#[derive(Clone, Copy, PartialEq)]
enum Writes {
    Workloads,
    /// May write, but may not name a workload's API type beside it.
    OwnObjects,
}

const MAX_LINES: usize = 400;

// ---------------------------------------------------------------------------------------------
// Reading

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    /// `::`
    Step,
    Sign(char),
}

impl Token {
    fn is(&self, sign: char) -> bool {
        *self == Token::Sign(sign)
    }

    fn word(&self) -> Option<&str> {
        match self {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }
}

/// Splits code into words and signs; comments and the content of literals are gone.
fn tokens(text: &str) -> Vec<(Token, usize)> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let (mut i, mut line, mut out) = (0, 1, Vec::new());
    while i < chars.len() {
        let start = i;
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 || i >= chars.len() {
                        break;
                    }
                }
            }
            '"' => i = end_of_string(&chars, i),
            // `'a'` and `'\n'` are literals, `'a` is a lifetime.
            '\'' if at(i + 1) == '\\' => {
                i += 3;
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            '\'' if at(i + 2) == '\'' => i += 3,
            ':' if at(i + 1) == ':' => {
                out.push((Token::Step, line));
                i += 2;
            }
            c if c == '_' || c.is_alphabetic() => {
                while at(i) == '_' || at(i).is_alphanumeric() {
                    i += 1;
                }
                let word: String = chars[start..i].iter().collect();
                let hashes = chars[i..].iter().take_while(|c| **c == '#').count();
                if matches!(word.as_str(), "r" | "br" | "cr") && at(i + hashes) == '"' {
                    i = end_of_raw_string(&chars, i + hashes + 1, hashes);
                } else if matches!(word.as_str(), "b" | "c") && at(i) == '"' {
                    i = end_of_string(&chars, i);
                } else if word == "r" && hashes == 1 {
                    i += 1; // r#type: the word follows
                } else {
                    out.push((Token::Word(word), line));
                }
            }
            c if c.is_ascii_digit() => {
                while at(i) == '_' || at(i).is_alphanumeric() {
                    i += 1;
                }
                out.push((Token::Sign('0'), line));
            }
            c => {
                if !c.is_whitespace() {
                    out.push((Token::Sign(c), line));
                }
                i += 1;
            }
        }
        line += chars[start..i.min(chars.len())].iter().filter(|c| **c == '\n').count();
    }
    out
}

fn end_of_string(chars: &[char], start: usize) -> usize {
    let mut i = start + 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

fn end_of_raw_string(chars: &[char], start: usize, hashes: usize) -> usize {
    let mut i = start;
    while i < chars.len() {
        if chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes {
            return i + 1 + hashes;
        }
        i += 1;
    }
    i
}

/// One file as the rules see it.
struct Source {
    /// Relative to `src/`, with `/`.
    path: String,
    code: Vec<(Token, usize)>,
    /// Without test code.
    lines: usize,
    pure: bool,
}

fn source(path: &str, text: &str) -> Source {
    let (code, test_lines) = without_tests(&tokens(text));
    let header = text.lines().map_while(|line| line.strip_prefix("//!")).collect::<Vec<_>>().join(" ");
    let headed = header.split(". ").any(|s| s.trim_start_matches([' ', '*', '#']).starts_with("Pure"));
    Source {
        path: path.to_owned(),
        code,
        lines: text.lines().count() - test_lines,
        pure: headed || PURE.iter().any(|place| path.starts_with(place)),
    }
}

/// Drops every item under `#[cfg(test)]`; also tells how many lines that were.
fn without_tests(code: &[(Token, usize)]) -> (Vec<(Token, usize)>, usize) {
    let attribute: Vec<Token> = tokens("#[cfg(test)]").into_iter().map(|(token, _)| token).collect();
    let (mut kept, mut lines, mut i) = (Vec::new(), 0, 0);
    while i < code.len() {
        if !code[i..].iter().map(|(token, _)| token).take(attribute.len()).eq(&attribute) {
            kept.push(code[i].clone());
            i += 1;
            continue;
        }
        let first = code[i].1;
        i += attribute.len();
        // The item ends with its first block or with a `;` outside of any bracket.
        let mut depth = 0_usize;
        while let Some((token, _)) = code.get(i) {
            i += 1;
            match token {
                Token::Sign('{' | '(' | '[') => depth += 1,
                Token::Sign(end @ ('}' | ')' | ']')) => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 && *end == '}' {
                        break;
                    }
                }
                Token::Sign(';') if depth == 0 => break,
                _ => {}
            }
        }
        lines += code[i - 1].1 - first + 1;
    }
    (kept, lines)
}

/// Every path that is named, with the trees of `use` spelled out.
fn paths(code: &[(Token, usize)]) -> Vec<(Vec<String>, usize)> {
    let (mut out, mut i) = (Vec::new(), 0);
    while i < code.len() {
        let before = |n: usize| i.checked_sub(n).map(|k| &code[k].0);
        let continues = match before(1) {
            Some(Token::Step) => before(2).is_some_and(|t| t.word().is_some() || t.is('>')),
            Some(sign) => sign.is('.'),
            None => false,
        };
        match &code[i].0 {
            // `impl Trait + use<…>` imports nothing.
            Token::Word(word) if word == "use" && !code.get(i + 1).is_some_and(|(t, _)| t.is('<')) => {
                i = use_tree(code, i + 1, &[], &mut out);
            }
            Token::Word(word) if !continues => {
                let (mut path, line) = (vec![word.clone()], code[i].1);
                while let (Some((Token::Step, _)), Some((Token::Word(next), _))) = (code.get(i + 1), code.get(i + 2)) {
                    path.push(next.clone());
                    i += 2;
                }
                out.push((path, line));
                i += 1;
            }
            _ => i += 1,
        }
    }
    out
}

/// Spells out one tree of a `use`; returns where it ends.
fn use_tree(code: &[(Token, usize)], mut i: usize, base: &[String], out: &mut Vec<(Vec<String>, usize)>) -> usize {
    let mut path = base.to_vec();
    while let Some((token, line)) = code.get(i) {
        match token {
            Token::Word(word) if word == "as" => i += 2,
            Token::Word(word) if word == "self" && !path.is_empty() => i += 1,
            Token::Word(word) => {
                path.push(word.clone());
                i += 1;
            }
            Token::Step => i += 1,
            Token::Sign('*') => {
                path.push("*".into());
                i += 1;
            }
            Token::Sign('{') => {
                i += 1;
                while code.get(i).is_some_and(|(t, _)| !t.is('}')) {
                    i = use_tree(code, i, &path, out);
                    if code.get(i).is_some_and(|(t, _)| t.is(',')) {
                        i += 1;
                    }
                }
                return i + 1;
            }
            _ => {
                // `use tokio;` names a crate, as a lone word elsewhere does not.
                if path.len() == 1 {
                    path.push("self".into());
                }
                out.push((path, *line));
                return i;
            }
        }
    }
    i
}

// ---------------------------------------------------------------------------------------------
// Rules

fn impurities(source: &Source) -> Vec<String> {
    if !source.pure {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (path, line) in paths(&source.code) {
        let names = |root: &str| path[0] == root && path.len() > 1;
        let what = path.join("::");
        let is_std = names("std") && IMPURE_STD.contains(&path[1].as_str());
        let now = path.len() > 1 && path.ends_with(&["now".to_owned()]);
        if IMPURE_CRATES.iter().any(|c| names(c)) || is_std || now {
            found.push(format!("src/{}:{line}: pure, but names {what}", source.path));
        }
    }
    for (token, line) in &source.code {
        if let Some(word) = token.word().filter(|w| IMPURE_WORDS.contains(w)) {
            found.push(format!("src/{}:{line}: pure, but names {word}", source.path));
        }
    }
    found
}

/// The folder that a path leads to, when it leads to another part of this crate.
fn target(path: &[String], modules: usize) -> Option<&str> {
    let supers = path.iter().take_while(|p| *p == "super").count();
    let next = match path[0].as_str() {
        "crate" | "lastgood" => 1,
        "super" if supers >= modules => supers,
        _ => return None,
    };
    path.get(next).map(String::as_str).filter(|p| *p != "*" && *p != "self")
}

fn wrong_arrows(source: &Source) -> Vec<String> {
    let mut parts: Vec<&str> = source.path.trim_end_matches(".rs").split('/').collect();
    let folder = parts[0];
    if folder == "lib" {
        return Vec::new();
    }
    if parts.last() == Some(&"mod") {
        parts.pop();
    }
    let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == folder) else {
        return vec![format!("src/{}: {folder} has no place in ARROWS", source.path)];
    };
    paths(&source.code)
        .iter()
        .filter_map(|(path, line)| Some((path, target(path, parts.len())?, line)))
        .filter(|(_, to, _)| *to != folder && !allowed.contains(to))
        .filter(|(path, to, _)| {
            let word = path.iter().skip_while(|p| p != to).nth(1).map(String::as_str);
            !WORDS.iter().any(|(from, into, what)| *from == folder && into == to && word == Some(*what))
        })
        .map(|(_, to, line)| format!("src/{}:{line}: {folder} must not use {to}", source.path))
        .collect()
}

/// Every name of a write to the API server.
fn writes(code: &[(Token, usize)]) -> Vec<(String, usize)> {
    const VERBS: [&str; 6] = ["patch", "evict", "delete", "delete_collection", "restart", "replace"];
    let is_write = |verb: &str| VERBS.contains(&verb) || verb.starts_with("patch_") || verb.starts_with("replace_");
    let mut found = Vec::new();
    for (i, (token, line)) in code.iter().enumerate() {
        let Some(verb) = token.word().filter(|w| is_write(w)) else { continue };
        let called = code.get(i + 1).is_some_and(|(t, _)| t.is('('));
        let method = i > 0 && code[i - 1].0.is('.');
        // `text.replace(a, b)` is not a write; the API's takes a name, parameters and the object.
        if called && method && (!verb.starts_with("replace") || arguments(&code[i + 1..]) >= 3) {
            found.push((format!(".{verb}(…)"), *line));
        }
    }
    for (path, line) in paths(code) {
        let pair = |first: &str, last: &dyn Fn(&str) -> bool| path.windows(2).any(|p| p[0] == first && last(&p[1]));
        if path.iter().any(|p| p == "Patch" || p == "PatchParams" || p == "EvictParams")
            || pair("Api", &is_write)
            || pair("Method", &|verb| ["PATCH", "PUT", "DELETE"].contains(&verb))
        {
            found.push((path.join("::"), line));
        }
    }
    found
}

/// How many arguments the call has that begins with this `(`.
fn arguments(code: &[(Token, usize)]) -> usize {
    let (mut depth, mut commas, mut last_is_comma) = (0_usize, 0, false);
    for (token, _) in code {
        match token {
            Token::Sign('(' | '[' | '{') => depth += 1,
            Token::Sign(')' | ']' | '}') => depth = depth.saturating_sub(1),
            Token::Sign(',') if depth == 1 => commas += 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        last_is_comma = depth == 1 && token.is(',');
    }
    commas + usize::from(!last_is_comma)
}

fn unlisted_writes(source: &Source) -> Vec<String> {
    let writes = writes(&source.code);
    let listed = WRITERS.iter().find(|(place, _)| source.path.starts_with(place)).map(|(_, what)| *what);
    match listed {
        Some(Writes::Workloads) => Vec::new(),
        None => writes
            .iter()
            .map(|(what, line)| format!("src/{}:{line}: only the executor writes, but here is {what}", source.path))
            .collect(),
        Some(Writes::OwnObjects) if writes.is_empty() => Vec::new(),
        Some(Writes::OwnObjects) => paths(&source.code)
            .iter()
            .filter(|(path, _)| names_workload_api(path))
            .map(|(path, line)| {
                format!("src/{}:{line}: writes own objects, but names {}", source.path, path.join("::"))
            })
            .collect(),
    }
}

/// `Kind::Deployment` is a word of ours; a bare `Deployment` is the API's type.
fn names_workload_api(path: &[String]) -> bool {
    const TYPES: [&str; 6] = ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Pod", "DynamicObject"];
    path.iter().enumerate().any(|(i, p)| TYPES.contains(&p.as_str()) && (i == 0 || path[i - 1] != "Kind"))
}

fn too_long(source: &Source) -> Vec<String> {
    let long = source.lines > MAX_LINES;
    long.then(|| format!("src/{}: {} lines without tests, more than {MAX_LINES}", source.path, source.lines))
        .into_iter()
        .collect()
}

// ---------------------------------------------------------------------------------------------
// The sources

fn is_only_tests(file: &str) -> bool {
    ["tests.rs", "fixtures.rs"].contains(&file) || file.ends_with("_tests.rs")
}

fn sources() -> Vec<Source> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<Source>) {
        for entry in fs::read_dir(folder).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "tests" {
                walk(root, &path, found);
            } else if name.ends_with(".rs") && !is_only_tests(&name) {
                let relative = path.strip_prefix(root).expect("below src");
                let relative = relative.to_string_lossy().replace('\\', "/");
                found.push(source(&relative, &fs::read_to_string(&path).expect("readable text")));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    assert!(found.len() > 10 && found.iter().any(|s| s.path == "domain/mod.rs"), "the sources were not found");
    found
}

fn assert_none(rule: fn(&Source) -> Vec<String>) {
    let found: Vec<String> = sources().iter().flat_map(rule).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn pure_files_have_no_io_no_clock_and_no_logging() {
    assert!(sources().iter().filter(|s| s.pure).count() > 5, "no pure files were found");
    assert_none(impurities);
}

#[test]
fn arrows_between_folders_go_one_way() {
    assert_none(wrong_arrows);
}

#[test]
fn the_arrows_make_no_circle() {
    let mut left: Vec<_> = ARROWS.iter().filter(|(_, to)| *to != ALL).collect();
    while !left.is_empty() {
        let before = left.len();
        let names: Vec<&str> = left.iter().map(|(from, _)| *from).collect();
        left.retain(|(_, to)| to.iter().any(|t| names.contains(t)));
        assert!(left.len() < before, "a circle among {names:?}");
    }
}

#[test]
fn only_the_executor_writes_to_workloads() {
    assert_none(unlisted_writes);
}

#[test]
fn files_stay_short() {
    assert_none(too_long);
}

// ---------------------------------------------------------------------------------------------
// Each rule can fail, and does not fail for what only looks alike

fn found(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) -> bool {
    !rule(&source(path, text)).is_empty()
}

#[test]
fn impure_code_is_found() {
    for bad in [
        "use tokio::sync::mpsc;",
        "use {serde::Serialize, tokio};  use tokio as t;",
        "fn f() { ::kube::Client::x() }",
        "fn f() { tracing::info!(\"x\") }",
        "fn f() { metrics::counter!(\"x\").increment(1) }",
        "use std::{collections::BTreeMap, time::{Duration, Instant}};",
        "fn f() -> std::time::SystemTime { todo!() }",
        "use std::{fs, net::IpAddr};",
        "fn f() { std::net::TcpStream::connect(x) }",
        "fn f() { let t = jiff::Timestamp::now(); }",
        "async fn f() {}",
        "#[cfg(test)]\nmod tests { fn t() {} }\nuse reqwest::Url;",
        "fn f() { std::env::var(\"X\") }",
    ] {
        assert!(found(impurities, "analysis/x.rs", bad), "{bad}");
        assert!(
            found(impurities, "executor/x.rs", &format!("//! Plans. Pure: values in, values out.\n{bad}")),
            "{bad}"
        );
        assert!(!found(impurities, "sources/x.rs", bad), "{bad}");
    }
    for good in [
        "//! Knows nothing of tokio::spawn.\n/* kube::Client /* nested */ reqwest::get */ fn f() {}",
        "fn f() { g(\"tokio::spawn \\\" kube::Api\", r#\"std::fs \" reqwest::x\"#, 'a', '\"', b\"metrics::x\") }",
        "struct S { metrics: M } fn f<'a>(s: &'a S) { s.metrics.kube; s.metrics::<u8>() }",
        "use std::{net::IpAddr, time::Duration}; use crate::domain::metrics::X;",
        "#[cfg(test)]\nmod tests { use std::fs; #[test] fn t() { tokio::spawn(x) } }",
        "#[cfg(test)] use std::fs;",
    ] {
        assert!(!found(impurities, "analysis/x.rs", good), "{good}");
    }
}

#[test]
fn wrong_arrows_are_found() {
    for (path, bad) in [
        ("domain/x.rs", "use crate::config::Settings;"),
        ("analysis/x.rs", "use crate::{domain::Rules, sources};"),
        ("analysis/a/b.rs", "fn f() { super::super::super::cluster::x() }"),
        ("analysis/mod.rs", "use super::cluster::View;"),
        ("watchdog/x.rs", "use crate::executor::Executor;"),
        ("executor/x.rs", "fn f(r: &crate::report::Outbox) {}"),
        ("cluster/x.rs", "pub use crate::record::{self, Incident};"),
        ("record/x.rs", "use crate::executor;"),
        ("telemetry/x.rs", "use crate::record::{Incident, Phase};"),
        ("helpers/x.rs", ""),
        ("sim/x.rs", "use crate::cluster::Cluster;"),
        ("app.rs", "use crate::nowhere::Cluster;"),
    ] {
        assert!(found(wrong_arrows, path, bad), "{path}: {bad}");
    }
    for (path, good) in [
        ("analysis/a/b.rs", "use super::super::c::D; use super::E; use crate::analysis::c; use crate::domain::F;"),
        ("report/x.rs", "use crate::record::Incident; // crate::executor"),
        (
            "telemetry/x.rs",
            "use crate::{domain::Verdict, record::Phase}; fn f(p: Phase) -> bool { p == Phase::Failed }",
        ),
        ("app.rs", "use crate::{executor::Executor, watchdog};"),
        ("main.rs", "fn main() { lastgood::cli::run() }"),
        ("domain/x.rs", "use super::*; #[cfg(test)] mod tests { use crate::config::Settings; }"),
    ] {
        assert!(!found(wrong_arrows, path, good), "{path}: {good}");
    }
}

#[test]
fn writes_are_found() {
    for bad in [
        "use kube::api::{Api, Patch};",
        "fn f() { Patch::Json::<()>(ops) }",
        "async fn f() { api.patch(name, &p, &x).await }",
        "async fn f() { api\n  .patch_scale(name, &p, &x).await }",
        "async fn f() { api.evict(name, &e).await }",
        "async fn f() { Api::delete(&api, name, &p).await }",
        "async fn f() { api.delete(name, &p).await }",
        "async fn f() { api.delete_collection(&a, &b).await }",
        "async fn f() { api.replace(name, &PostParams::default(), &object).await }",
        "fn f() { http::Request::builder().method(Method::PATCH) }",
    ] {
        assert!(found(unlisted_writes, "watchdog/x.rs", bad), "{bad}");
        assert!(!found(unlisted_writes, "executor/apply.rs", bad), "{bad}");
        assert!(!found(unlisted_writes, "record/incidents.rs", bad), "{bad}");
        let with_type = format!("use k8s_openapi::api::apps::v1::Deployment; {bad}");
        assert!(found(unlisted_writes, "record/incidents.rs", &with_type), "{bad}");
    }
    for good in [
        "fn f() { text.replace(\"a\", \"b\").replace(char::is_whitespace, &g(1, 2, 3),) }",
        "fn f() { option.replace(x); map.remove(y); s.trial.patch; g(s.replace) }",
        "fn f() { slot.replace(x) }  fn g(a: A, b: B, c: C) {}",
        "/// Sends api.patch(…) and Patch::Json.\nfn f() { \".patch(\" }",
    ] {
        assert!(!found(unlisted_writes, "watchdog/x.rs", good), "{good}");
    }
    let own = "fn f() { let k = Kind::Deployment; api.patch(name, &p, &incident) }";
    assert!(!found(unlisted_writes, "record/incidents.rs", own));
}

#[test]
fn long_files_are_found() {
    let code = "fn f() {}\n".repeat(MAX_LINES);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{code}}}\n");
    assert!(!found(too_long, "domain/x.rs", &format!("{code}{tests}")));
    assert!(found(too_long, "domain/x.rs", &format!("{code}fn g() {{}}\n{tests}")));
}

//! Pure. `LASTGOOD_…` variables to keys of `lastgood.yaml`.

use super::{
    Faults,
    fault::nearest,
    schema::{is_list, paths, settings_schema},
    tree::{Body, Entry, Node, Place},
};

/// Prefix of every variable.
const VARIABLE_PREFIX: &str = "LASTGOOD_";

/// Variables with our prefix that are no settings: command-line options.
pub const OPTION_VARIABLES: [&str; 4] = ["LASTGOOD_CONFIG", "LASTGOOD_BLESS", "LASTGOOD_SERVER", "LASTGOOD_CRASH_AT"];

/// One setting that the environment gives.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Variable {
    /// `LASTGOOD_SOURCES__PROMETHEUS__URL`
    pub(crate) name: String,
    /// `sources.prometheus.url`
    pub(crate) path: String,
    /// The value, or the values of a list.
    pub(crate) body: Body,
}

/// Finds the settings among the variables. Levels are separated by `__`; `_` within a level and
/// case do not count, so `LEADER_ELECTION` is `leaderElection`. Lists are separated by commas. An
/// empty variable counts as not set.
pub(crate) fn variables(env: impl IntoIterator<Item = (String, String)>, faults: &mut Faults) -> Vec<Variable> {
    let schema = settings_schema();
    let mut known = Vec::new();
    paths(&schema, &schema, "", &mut known);
    // Elements of lists of mappings, and whole mappings, have no name here.
    let parents: Vec<String> = known.iter().filter_map(|k| k.rsplit_once('.').map(|(p, _)| p.to_owned())).collect();
    known.retain(|k| !parents.contains(k) && !k.starts_with("notifiers.") && !k.ends_with(".headers"));
    let names: Vec<String> = known.iter().map(|k| variable_name(k)).collect();

    let mut found = Vec::new();
    for (name, value) in env {
        let Some(rest) = name.strip_prefix(VARIABLE_PREFIX) else { continue };
        if value.is_empty() || is_service_link(rest) || OPTION_VARIABLES.contains(&name.as_str()) {
            continue;
        }
        let squeezed = squeeze(rest);
        match known.iter().find(|k| squeeze(&variable_name(k)[VARIABLE_PREFIX.len()..]) == squeezed) {
            Some(path) if is_list(&schema, path) => {
                let item = |text: &str| Node { at: Place::default(), body: Body::Text(text.trim().to_owned()) };
                let items = value.split(',').filter(|t| !t.trim().is_empty()).map(item).collect();
                found.push(Variable { name, path: path.clone(), body: Body::Seq(items) });
            }
            Some(path) => found.push(Variable { name, path: path.clone(), body: Body::Text(value) }),
            None => {
                let hint = match nearest(&name, names.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean {near}?"),
                    None => "lists of mappings and headers can only be set in lastgood.yaml; unset it otherwise".into(),
                };
                faults.0.extend(Faults::one("environment", format!("{name} is not a setting"), hint).0);
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The variable of a key: `LASTGOOD_LEADER_ELECTION`.
pub(crate) fn variable_name(path: &str) -> String {
    let mut name = String::from(VARIABLE_PREFIX);
    for c in path.chars() {
        match c {
            '.' => name.push_str("__"),
            c if c.is_ascii_uppercase() => name.extend(['_', c]),
            c => name.push(c.to_ascii_uppercase()),
        }
    }
    name
}

/// One level for `__`, nothing for `_`, small letters.
fn squeeze(rest: &str) -> String {
    rest.split("__").map(|level| level.replace('_', "").to_lowercase()).collect::<Vec<_>>().join(".")
}

/// Kubernetes puts the address of every Service of a namespace into its pods: a Service named
/// `lastgood` yields `LASTGOOD_SERVICE_HOST`, `LASTGOOD_PORT_9797_TCP_ADDR`, and so on.
fn is_service_link(rest: &str) -> bool {
    let rest = format!("_{rest}");
    rest.ends_with("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || rest.ends_with("_PORT")
        || ["_TCP", "_UDP", "_SCTP"].iter().any(|p| rest.find("_PORT_").is_some_and(|at| rest[at..].contains(p)))
}

/// Puts a variable into the tree of the file, over what stands there; its place is 0:0.
pub(crate) fn overlay(tree: &mut Node, path: &[&str], body: Body) {
    let Some((step, rest)) = path.split_first() else {
        *tree = Node { at: Place::default(), body };
        return;
    };
    if !matches!(tree.body, Body::Map(_)) {
        tree.body = Body::Map(Vec::new());
    }
    let Body::Map(entries) = &mut tree.body else { return };
    let at = match entries.iter().position(|e| e.key == *step) {
        Some(at) => at,
        None => {
            let value = Node { at: Place::default(), body: Body::Map(Vec::new()) };
            entries.push(Entry { key: (*step).to_owned(), key_at: Place::default(), value });
            entries.len() - 1
        }
    };
    overlay(&mut entries[at].value, rest, body);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(env: &[(&str, &str)]) -> (Vec<(String, Body)>, String) {
        let mut faults = Faults::default();
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let found = variables(env, &mut faults).into_iter().map(|v| (v.path, v.body)).collect();
        (found, faults.to_string())
    }

    #[test]
    fn variables_name_keys_at_every_level() {
        for (name, path) in [
            ("LASTGOOD_INTERVAL", "interval"),
            ("LASTGOOD_LEADER_ELECTION", "leaderElection"),
            ("LASTGOOD_LEADERELECTION", "leaderElection"),
            ("LASTGOOD_SOURCES__PROMETHEUS__BEARER_TOKEN_FILE", "sources.prometheus.bearerTokenFile"),
            ("LASTGOOD_SOURCES__HEALTH__CLUSTER_DOMAIN", "sources.health.clusterDomain"),
            ("LASTGOOD_LOG__LEVEL", "log.level"),
        ] {
            assert_eq!(read(&[(name, "x")]), (vec![(path.into(), Body::Text("x".into()))], String::new()));
        }
        assert_eq!(variable_name("sources.prometheus.maxBytes"), "LASTGOOD_SOURCES__PROMETHEUS__MAX_BYTES");
        let (lists, _) = read(&[("LASTGOOD_NAMESPACES", "a, b,")]);
        assert!(matches!(&lists[0].1, Body::Seq(items) if items.len() == 2));
    }

    #[test]
    fn unknown_variables_are_faults_but_service_links_are_not() {
        let (found, faults) =
            read(&[("LASTGOOD_INTERVALL", "5s"), ("LASTGOOD_NOTIFIERS__0__NAME", "x"), ("PATH", "x")]);
        assert!(found.is_empty());
        assert_eq!(
            faults,
            "environment: LASTGOOD_INTERVALL is not a setting: did you mean LASTGOOD_INTERVAL?\n\
             environment: LASTGOOD_NOTIFIERS__0__NAME is not a setting: lists of mappings and headers can only be set in lastgood.yaml; unset it otherwise"
        );
        let links = [
            "SERVICE_HOST",
            "SERVICE_PORT",
            "SERVICE_PORT_HTTP",
            "PORT",
            "PORT_9797_TCP",
            "PORT_9797_TCP_ADDR",
            "WEB_SERVICE_HOST",
            "WEB_PORT_80_TCP_PROTO",
            "WEB_PORT",
        ];
        let links: Vec<(String, String)> =
            links.iter().map(|l| (format!("LASTGOOD_{l}"), "tcp://10.0.0.1:80".into())).collect();
        let mut faults = Faults::default();
        assert_eq!(variables(links, &mut faults), vec![]);
        assert_eq!(faults, Faults::default());
    }
}

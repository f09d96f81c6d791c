//! Pure. What may not stand in `lastgood.yaml` although its type allows it.

use super::{
    Fault, Faults, NotifierSettings, PrometheusSettings, Settings, environment::Variable, format_duration, tree::Node,
    values::is_dns_label,
};
use std::time::Duration;

/// Where the faults of the settings are noted.
pub(crate) struct Origin<'a> {
    pub(crate) file: &'a str,
    pub(crate) tree: &'a Node,
    pub(crate) variables: &'a [Variable],
}

impl Origin<'_> {
    /// Notes a fault at the value behind a path, in the file or in the environment.
    fn fault(&self, faults: &mut Faults, path: &str, message: &str, hint: &str) {
        let steps: Vec<&str> = path.split('.').collect();
        let at = self.tree.place(&steps);
        let variable = self.variables.iter().find(|v| v.path == path);
        let file = variable.map_or(self.file, |v| v.name.as_str());
        let (line, column) = if variable.is_some() { (0, 0) } else { (at.line, at.column) };
        faults.0.push(Fault {
            file: file.into(),
            line,
            column,
            message: format!("{path}: {message}"),
            hint: hint.into(),
        });
    }
}

/// Checks ranges, names, URLs, and keys that need each other.
pub(crate) fn check_settings(s: &Settings, origin: &Origin<'_>, faults: &mut Faults) {
    let mut fault = |path: &str, message: String, hint: &str| origin.fault(faults, path, &message, hint);
    if s.environment.is_empty() || s.environment.len() > 63 || !s.environment.chars().all(is_name_char) {
        let message = "it stands in file names, so it must be 1 to 63 letters, digits, '-', '_' or '.'".into();
        fault("environment", message, "write a short name: production");
    } else if s.environment.starts_with('.') {
        fault(
            "environment",
            "it stands in file names and may not begin with a dot".into(),
            "write a short name: production",
        );
    }
    range(&mut fault, "interval", s.interval, Duration::from_secs(1), Duration::from_secs(300));
    if !s.namespace.is_empty() && !is_dns_label(&s.namespace) {
        fault("namespace", "this is not the name of a namespace".into(), "names have small letters, digits and '-'");
    }
    for (i, namespace) in s.namespaces.iter().enumerate() {
        if !is_dns_label(namespace) {
            let path = format!("namespaces.{i}");
            fault(
                &path,
                "this is not the name of a namespace".into(),
                "names have small letters, digits and '-'; leave the list empty for all",
            );
        }
    }
    for (path, value) in [("thresholds", &s.thresholds), ("reports.folder", &s.reports.folder)] {
        if value.as_os_str().is_empty() {
            fault(path, "the path is empty".into(), "write a path, or remove the key");
        }
    }
    if s.log.level.trim().is_empty() {
        fault(
            "log.level",
            "the filter is empty".into(),
            "write error, warn, info, debug, trace, or a filter like lastgood=debug,info",
        );
    }
    range(
        &mut fault,
        "sources.scrape.timeout",
        s.sources.scrape.timeout,
        Duration::from_millis(100),
        Duration::from_secs(60),
    );
    for (path, value) in [
        ("sources.scrape.concurrency", s.sources.scrape.concurrency),
        ("sources.health.concurrency", s.sources.health.concurrency),
    ] {
        count(&mut fault, path, value, 1, 1024);
    }
    count(&mut fault, "sources.scrape.maxBytes", s.sources.scrape.max_bytes, 1 << 10, 1 << 30);
    if !s.sources.health.cluster_domain.split('.').all(is_dns_label) {
        fault("sources.health.clusterDomain", "this is not a domain".into(), "write it like cluster.local");
    }
    if let Some(prometheus) = &s.sources.prometheus {
        check_prometheus(prometheus, &mut fault);
    }
    check_notifiers(&s.notifiers, &mut fault);
}

fn check_prometheus(p: &PrometheusSettings, fault: &mut impl FnMut(&str, String, &str)) {
    let key = |name: &str| format!("sources.prometheus.{name}");
    // The URL itself is never repeated: it may hold a password.
    match p.url.parse::<http::Uri>() {
        Ok(uri) => {
            if !matches!(uri.scheme_str(), Some("http" | "https")) {
                fault(
                    &key("url"),
                    "the scheme is neither http nor https".into(),
                    "write it like http://prometheus.monitoring:9090",
                );
            } else if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
                fault(
                    &key("url"),
                    "credentials in a URL end up in logs".into(),
                    "use username and passwordFile, or bearerTokenFile",
                );
            } else if uri.host().is_none_or(str::is_empty) {
                fault(&key("url"), "the URL has no host".into(), "write it like http://prometheus.monitoring:9090");
            }
            if uri.query().is_some() || p.url.contains('#') {
                fault(&key("url"), "the base URL has a query or a fragment".into(), "remove everything from ? or # on");
            }
            if uri.path().trim_end_matches('/').ends_with("/api/v1") {
                fault(&key("url"), "the base URL stands without /api/v1".into(), "remove /api/v1");
            }
        }
        Err(_) => fault(&key("url"), "this is not a URL".into(), "write it like http://prometheus.monitoring:9090"),
    }
    range(fault, &key("timeout"), p.timeout, Duration::from_millis(100), Duration::from_secs(120));
    count(fault, &key("maxBytes"), p.max_bytes, 1 << 10, 1 << 30);
    count(fault, &key("maxSeries"), p.max_series, 1, 10_000_000);
    if p.username.is_some() != p.password_file.is_some() {
        fault(&key("username"), "username and passwordFile need each other".into(), "give both, or none");
    }
    if p.username.is_some() && p.bearer_token_file.is_some() {
        fault(
            &key("bearerTokenFile"),
            "a request has one kind of authentication".into(),
            "choose bearerTokenFile, or username and passwordFile",
        );
    }
    if p.cert_file.is_some() != p.key_file.is_some() {
        fault(&key("certFile"), "certFile and keyFile need each other".into(), "give both, or none");
    }
    for (name, value) in &p.headers {
        let path = key(&format!("headers.{name}"));
        let secret = ["authorization", "proxy-authorization", "cookie"].contains(&name.to_ascii_lowercase().as_str());
        if secret {
            fault(
                &path,
                "this header is a secret, and this file is not for secrets".into(),
                "use bearerTokenFile, or username and passwordFile",
            );
        } else if http::HeaderName::try_from(name.as_str()).is_err()
            || http::HeaderValue::try_from(value.as_str()).is_err()
        {
            fault(
                &path,
                "this is not an HTTP header".into(),
                "write a name of letters and '-', and a value of one line",
            );
        }
    }
}

fn check_notifiers(notifiers: &[NotifierSettings], fault: &mut impl FnMut(&str, String, &str)) {
    for (i, n) in notifiers.iter().enumerate() {
        if n.name.is_empty() || n.name.len() > 63 || !n.name.chars().all(is_name_char) {
            fault(
                &format!("notifiers.{i}.name"),
                "this is not a name".into(),
                "write 1 to 63 letters, digits, '-', '_' or '.'",
            );
        }
        if notifiers[..i].iter().any(|other| other.name == n.name) {
            fault(
                &format!("notifiers.{i}.name"),
                format!("two notifiers are named \"{}\"", super::wrong::short(&n.name)),
                "give each its own name",
            );
        }
        range(fault, &format!("notifiers.{i}.timeout"), n.timeout, Duration::from_millis(100), Duration::from_secs(60));
    }
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.".contains(c)
}

fn range(fault: &mut impl FnMut(&str, String, &str), path: &str, d: Duration, least: Duration, most: Duration) {
    if d < least || d > most {
        let hint = format!("write a duration from {} to {}", format_duration(least), format_duration(most));
        fault(path, format!("{} is out of range", format_duration(d)), &hint);
    }
}

fn count(fault: &mut impl FnMut(&str, String, &str), path: &str, n: usize, least: usize, most: usize) {
    if n < least || n > most {
        fault(path, format!("{n} is out of range"), &format!("write a number from {least} to {most}"));
    }
}

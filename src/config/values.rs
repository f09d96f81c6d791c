//! Pure. The scalars of `thresholds.yaml`: read with their unit, checked for range, written back normalised.

use super::{format_duration, parse_duration, wrong::short};
use crate::domain::{Brake, Callee};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{borrow::Cow, time::Duration};

/// A scalar on its way into YAML or JSON.
#[derive(Serialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Whole(u64),
    Real(f64),
}

impl From<String> for Written {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Declares a newtype that is a text in YAML: how it is read, written, and described in the schema.
macro_rules! text_values {
    ($($(#[$doc:meta])* $name:ident($inner:ty) read $read:expr, write $write:expr, schema $schema:tt;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub(crate) struct $name(pub(crate) $inner);

        impl $name {
            /// Reads it; the error is a sentence `what; what to do`.
            pub(crate) fn read(text: &str) -> Result<Self, String> {
                let read: fn(&str) -> Result<$inner, String> = $read;
                read(text).map(Self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                Self::read(&String::deserialize(d)?).map_err(serde::de::Error::custom)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                let write: fn(&$inner) -> Written = $write;
                write(&self.0).serialize(s)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> { stringify!($name).into() }
            fn inline_schema() -> bool { true }
            fn json_schema(_: &mut SchemaGenerator) -> Schema { json_schema!($schema) }
        }
    )+};
}

text_values! {
    /// How long a rollout is watched.
    Watch(Duration)
        read |t| between(t, Duration::from_secs(1), Duration::from_secs(7 * 86400)),
        write |d| format_duration(*d).into(),
        schema { "type": "string", "pattern": DURATION, "examples": ["30m", "1h30m"] };
    /// How long after its begin a rollout is still looked at now and then.
    LateWatch(Duration)
        read |t| between(t, Duration::ZERO, Duration::from_secs(7 * 86400)),
        write |d| format_duration(*d).into(),
        schema { "type": "string", "pattern": DURATION, "examples": ["1d", "0s"] };
    /// Deadline of one probe.
    ProbeTimeout(Duration)
        read |t| between(t, Duration::from_millis(100), Duration::from_secs(30)),
        write |d| format_duration(*d).into(),
        schema { "type": "string", "pattern": DURATION, "examples": ["3s"] };
    /// How long a person may deploy a fix.
    HotfixWindow(Duration)
        read |t| between(t, Duration::ZERO, Duration::from_secs(86400)),
        write |d| format_duration(*d).into(),
        schema { "type": "string", "pattern": DURATION, "examples": ["10m"] };
    /// How long verification may take.
    VerifyWithin(Duration)
        read |t| between(t, Duration::from_secs(1), Duration::from_secs(86400)),
        write |d| format_duration(*d).into(),
        schema { "type": "string", "pattern": DURATION, "examples": ["10m"] };
    /// A quantile below this never breaks the limit.
    Floor(Duration)
        read |t| between(t, Duration::ZERO, Duration::from_secs(600)),
        write |d| format_duration(*d).into(),
        schema { "type": "string", "pattern": DURATION, "examples": ["20ms"] };
    /// Share of requests that may fail, 0 < share < 1.
    ErrorShare(f64)
        read |t| {
            let share = share(t)?;
            if share > 0.0 && share < 1.0 { Ok(share) } else {
                Err(format!("\"{}\" is not a share between 0 and 1; write 5% or 0.05", short(t)))
            }
        },
        write |x| format_share(*x).into(),
        schema { "type": ["string", "number"], "pattern": SHARE, "exclusiveMinimum": 0, "exclusiveMaximum": 1, "examples": ["5%", 0.05] };
    /// Relative increase, 0 < increase ≤ 100.
    Increase(f64)
        read |t| {
            let increase = share(t)?;
            let most = if t.trim().ends_with('%') { 100.0 } else { 10.0 };
            if increase > 0.0 && increase <= most { Ok(increase) } else {
                Err(format!("\"{}\" is not an increase above 0 % and up to 10000 %; write 50% or 0.5", short(t)))
            }
        },
        write |x| format_share(*x).into(),
        schema { "type": ["string", "number"], "pattern": SHARE, "exclusiveMinimum": 0, "maximum": 10, "examples": ["50%", 0.5] };
    /// A quantile, 0 < q < 1.
    Quantile(f64)
        read |t| {
            let q = share(t)?;
            if q > 0.0 && q < 1.0 { Ok(q) } else {
                Err(format!("\"{}\" is not a quantile between 0 and 1; write 0.95 for the 95th percentile", short(t)))
            }
        },
        write |x| Written::Real(rounded(*x)),
        schema { "type": ["string", "number"], "pattern": SHARE, "exclusiveMinimum": 0, "exclusiveMaximum": 1, "examples": [0.95] };
    /// A brake: at most so many undos in so long.
    BrakeText(Brake)
        read read_brake,
        write |b| format_brake(*b).into(),
        schema { "type": "string", "pattern": "^\\s*[0-9]+\\s*/\\s*([0-9.]+\\s*(ms|s|m|h|d)\\s*)+$", "examples": ["3/10m"] };
    /// A port, 1 to 65535.
    Port(u16)
        read |t| match t.trim().parse() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(format!("\"{}\" is not a port; write a number from 1 to 65535", short(t))),
        },
        write |p| Written::Whole((*p).into()),
        schema { "type": ["integer", "string"], "minimum": 1, "maximum": 65535, "pattern": "^[0-9]{1,5}$", "examples": [8080] };
    /// The path of a URL, starting with `/`.
    HttpPath(String)
        read |t| {
            let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '\\' | '#' | '"' | '<' | '>' | '^' | '`' | '{' | '|' | '}');
            if t.starts_with('/') && !t.starts_with("//") && t.len() <= 1024 && t.chars().all(fits) { Ok(t.to_owned()) } else {
                Err(format!("\"{}\" is not the path of a URL; write it from the first slash on, without spaces: /healthz", short(t)))
            }
        },
        write |t| t.clone().into(),
        schema { "type": "string", "pattern": "^/($|[^/])", "maxLength": 1024, "examples": ["/healthz"] };
    /// Name of a Service in the workload's own namespace.
    ServiceName(String)
        read |t| if is_dns_label(t) { Ok(t.to_owned()) } else {
            Err(format!("\"{}\" is not the name of a Service; write its bare name, it is looked up in the workload's own namespace", short(t)))
        },
        write |t| t.clone().into(),
        schema { "type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63 };
    /// A workload that is called: `name`, `namespace/name` or `namespace/Kind/name`.
    CalleeText(Callee)
        read |t| t.parse().map_err(|_| {
            format!("\"{}\" does not name a workload; write name, namespace/name or namespace/Kind/name", short(t))
        }),
        write |c| c.to_string().into(),
        schema { "type": "string", "pattern": "^([-a-z0-9.]+/([A-Za-z]+/)?)?[-a-z0-9.]+$", "maxLength": 600, "examples": ["payments", "shop/StatefulSet/db"] };
    /// A name that stands in reports, logs and metrics.
    Label(String)
        read |t| if !t.is_empty() && t.len() <= 63 && t.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) { Ok(t.to_owned()) } else {
            Err(format!("\"{}\" is not a name; write 1 to 63 letters, digits, '-', '_' or '.'", short(t)))
        },
        write |t| t.clone().into(),
        schema { "type": "string", "pattern": "^[A-Za-z0-9._-]{1,63}$" };
    /// A name of Kubernetes with `*` and `?`.
    NameGlob(String)
        read |t| if !t.is_empty() && t.len() <= 253 && t.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.*?".contains(c)) { Ok(t.to_owned()) } else {
            Err(format!("\"{}\" can never match a name; names have small letters, digits and '-', and may hold * and ? here", short(t)))
        },
        write |t| t.clone().into(),
        schema { "type": "string", "pattern": "^[-a-z0-9.*?]{1,253}$", "examples": ["production", "team-*"] };
    /// The value of a label with `*` and `?`.
    LabelGlob(String)
        read |t| if t.len() <= 63 && t.chars().all(|c| c.is_ascii_alphanumeric() || "-_.*?".contains(c)) { Ok(t.to_owned()) } else {
            Err(format!("\"{}\" can never match the value of a label; those have letters, digits, '-', '_' and '.', and may hold * and ? here", short(t)))
        },
        write |t| t.clone().into(),
        schema { "type": ["string", "number"], "pattern": "^[-A-Za-z0-9_.*?]{0,63}$", "examples": ["jarvis-api"] };
    /// A PromQL expression.
    Query(String)
        read |t| if !t.trim().is_empty() && t.len() <= 10_000 { Ok(t.trim().to_owned()) } else {
            Err("this is not a query; write PromQL of up to 10000 characters".into())
        },
        write |t| t.clone().into(),
        schema { "type": "string", "minLength": 1, "maxLength": 10000 };
    /// A number of requests, at least 1.
    Requests(u64)
        read |t| match t.trim().parse() {
            Ok(n) if (1..=1_000_000_000).contains(&n) => Ok(n),
            _ => Err(format!("\"{}\" is not a number of requests; write a whole number from 1", short(t))),
        },
        write |n| Written::Whole(*n),
        schema { "type": ["integer", "string"], "minimum": 1, "maximum": 1_000_000_000, "pattern": "^[0-9]+$", "examples": [300] };
}

/// The one version of the format.
#[derive(JsonSchema)]
pub(crate) enum ApiVersion {
    #[serde(rename = "lastgood.dev/v1")]
    #[allow(dead_code)]
    V1,
}

/// The one kind of file.
#[derive(JsonSchema)]
pub(crate) enum FileKind {
    #[allow(dead_code)]
    Thresholds,
}

const DURATION: &str = r"^\s*([0-9.]+\s*(ms|s|m|h|d)\s*)+$";
const SHARE: &str = r"^\s*[0-9.]+\s*%?\s*$";

/// A DNS label: small letters, digits and inner hyphens, at most 63.
pub(crate) fn is_dns_label(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Reads `5%` or `0.05` as a share of one.
fn share(text: &str) -> Result<f64, String> {
    let t = text.trim();
    let (number, divisor) = match t.strip_suffix('%') {
        Some(percent) => (percent.trim_end(), 100.0),
        None => (t, 1.0),
    };
    let word = number.trim_start_matches(['-', '+', '.']).to_ascii_lowercase();
    if matches!(word.as_str(), "nan" | "inf" | "infinity") {
        return Err(format!(
            "\"{}\" is not a finite number; write a percentage like 5% or a share like 0.05",
            short(t)
        ));
    }
    match number.parse::<f64>() {
        Ok(x) if x.is_finite() => Ok(x / divisor),
        _ => Err(format!("\"{}\" is not a percentage; write 5% or 0.05", short(t))),
    }
}

fn format_share(share: f64) -> String {
    format!("{}%", rounded(share * 100.0))
}

/// A number without the noise of binary fractions.
fn rounded(x: f64) -> f64 {
    (x * 1e9).round() / 1e9
}

fn between(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let d = parse_duration(text)?;
    if d < least || d > most {
        return Err(format!(
            "{} is out of range; write a duration from {} to {}",
            format_duration(d),
            format_duration(least),
            format_duration(most)
        ));
    }
    Ok(d)
}

fn read_brake(text: &str) -> Result<Brake, String> {
    let wrong = || format!("\"{}\" is not a brake; write at most so many in so long: 3/10m", short(text));
    let (count, window) = text.split_once('/').ok_or_else(wrong)?;
    let count: u32 = count.trim().parse().map_err(|_| wrong())?;
    if count == 0 {
        return Err(format!("\"{}\" would never allow an undo; write mode: observe for that", short(text)));
    }
    if count > 1000 {
        return Err(format!("\"{}\" would not brake anything; write a count from 1 to 1000", short(text)));
    }
    let window = between(window, Duration::from_secs(1), Duration::from_secs(7 * 86400))
        .map_err(|e| if e.contains("is not a duration") { wrong() } else { e })?;
    Ok(Brake { count, window })
}

/// The inverse of the reading: `3/10m`.
pub(crate) fn format_brake(brake: Brake) -> String {
    format!("{}/{}", brake.count, format_duration(brake.window))
}

/// Whether a text fits a pattern in which `*` stands for any run of characters and `?` for one.
/// Linear in the text for each star, so no pattern can make it slow.
pub(crate) fn glob_matches(pattern: &str, text: &str) -> bool {
    let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut pi, mut ti) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while ti < t.len() {
        match p.get(pi) {
            Some('*') => {
                retry = Some((pi, ti));
                pi += 1;
            }
            Some(c) if *c == '?' || *c == t[ti] => (pi, ti) = (pi + 1, ti + 1),
            _ => match retry {
                Some((star, from)) => {
                    retry = Some((star, from + 1));
                    (pi, ti) = (star + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    p[pi..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_with_and_without_percent() {
        for (text, value) in [("5%", 0.05), ("0.05", 0.05), (" 2.5 % ", 0.025), (".5", 0.5), ("99.9%", 0.999)] {
            assert!((ErrorShare::read(text).unwrap().0 - value).abs() < 1e-15, "{text}");
        }
        for text in
            ["5", "0", "0%", "100%", "1", "-1%", "nan", ".nan", ".inf", "-.inf", "NaN%", "1e999", "", "%", "5 percent"]
        {
            assert!(ErrorShare::read(text).is_err(), "{text}");
        }
        assert!((Increase::read("150%").unwrap().0 - 1.5).abs() < 1e-15);
        assert!(Increase::read("50").is_err(), "50 without a percent sign would be +5000 %");
        assert!(ErrorShare::read(".nan").unwrap_err().contains("not a finite number"));
    }

    #[test]
    fn brakes_and_durations_say_what_is_wrong() {
        assert_eq!(BrakeText::read("3/10m").unwrap().0, Brake { count: 3, window: Duration::from_secs(600) });
        assert_eq!(format_brake(BrakeText::read("1 / 60m").unwrap().0), "1/1h");
        for (text, says) in [
            ("3", "is not a brake"),
            ("3/10", "is not a brake"),
            ("0/1h", "would never allow"),
            ("5000/1h", "would not brake"),
            ("-1/1h", "is not a brake"),
            ("1/0s", "out of range"),
        ] {
            let error = BrakeText::read(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(Watch::read("30").unwrap_err().contains("write a number with a unit"));
        assert!(Watch::read("0s").unwrap_err().contains("out of range; write a duration from 1s to 7d"));
    }

    #[test]
    fn a_probe_cannot_be_talked_into_leaving_its_host() {
        for path in ["healthz", "//evil.example", "/a b", "/a#b", "http://x/", "", "/\\evil", "/é", "/\n"] {
            assert!(HttpPath::read(path).is_err(), "{path}");
        }
        assert_eq!(HttpPath::read("/healthz?full=1&x=%20").unwrap().0, "/healthz?full=1&x=%20");
        for service in ["api.kube-system", "169.254.169.254", "api/x", "api:80", "user@api", "", "API", "-a", "a-"] {
            assert!(ServiceName::read(service).is_err(), "{service}");
        }
    }

    #[test]
    fn globs() {
        for (pattern, text, fits) in [
            ("prod-*", "prod-eu", true),
            ("prod-*", "prod", false),
            ("*", "", true),
            ("*-api", "jarvis-api", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("t?", "t1", true),
            ("t?", "t", false),
            ("prod", "production", false),
        ] {
            assert_eq!(glob_matches(pattern, text), fits, "{pattern} {text}");
        }
        assert!(!glob_matches(&"*a".repeat(60), &"a".repeat(59)));
    }
}

//! Pure. The annotations with which a workload changes its own rules.
//!
//! They come from anyone who may write the workload, so reading them never fails and never
//! crashes (safety.md 3.4), they cannot make Lastgood send requests anywhere but to the workload's
//! own pods, and one that is not understood takes away the permission to act.

use super::{
    fault::nearest,
    raw::PresetName,
    resolve::CALLS_MAX,
    values::{CalleeText, ErrorShare, HttpPath, Increase, Port, Watch},
    wrong::short,
};
use crate::domain::{Callee, Mode, PREFIX, Preset, Rules};
use serde::Deserialize;
use std::{collections::BTreeMap, sync::Arc};

/// The keys after the prefix.
pub const RULE_ANNOTATIONS: [&str; 8] =
    ["mode", "errors-max", "latency-max-increase", "watch", "metrics-port", "metrics-path", "preset", "calls"];

/// What a workload's annotations ask for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Overrides {
    mode: Option<Mode>,
    errors_max: Option<f64>,
    latency_max_increase: Option<f64>,
    watch: Option<std::time::Duration>,
    port: Option<u16>,
    path: Option<String>,
    preset: Option<Preset>,
    calls: Option<Vec<Callee>>,
    faults: Vec<String>,
}

impl Overrides {
    /// Reads the annotations under our prefix; others are none of our concern.
    pub(crate) fn read(annotations: &BTreeMap<String, String>) -> Self {
        let mut found = Self::default();
        let ours = annotations.range(PREFIX.to_owned()..).take_while(|(key, _)| key.starts_with(PREFIX));
        for (key, value) in ours {
            let name = &key[PREFIX.len()..];
            let value = value.trim();
            let read = match name {
                "mode" => word(value, &["observe", "act", "off"]).map(|m| found.mode = Some(m)),
                "errors-max" => ErrorShare::read(value).map(|x| found.errors_max = Some(x.0)),
                "latency-max-increase" => Increase::read(value).map(|x| found.latency_max_increase = Some(x.0)),
                "watch" => Watch::read(value).map(|x| found.watch = Some(x.0)),
                "metrics-port" => Port::read(value).map(|x| found.port = Some(x.0)),
                "metrics-path" => HttpPath::read(value).map(|x| found.path = Some(x.0)),
                "preset" => word::<PresetName>(value, &PRESETS).map(|p| found.preset = Some(p.into())),
                "calls" => read_calls(value).map(|calls| found.calls = Some(calls)),
                _ => match nearest(name, RULE_ANNOTATIONS) {
                    // Other annotations under our prefix belong to other parts of Lastgood.
                    Some(near) if near != name => {
                        Err(format!("there is no such annotation; did you mean {PREFIX}{near}?"))
                    }
                    _ => Ok(()),
                },
            };
            if let Err(why) = read {
                found.faults.push(format!("annotation {PREFIX}{}: {}", short(name), why.replacen("; ", ": ", 1)));
            }
        }
        found
    }

    /// The rules that these annotations make of `base`, and what is wrong with them. Without any,
    /// `base` itself.
    pub(crate) fn over(self, base: &Arc<Rules>) -> (Arc<Rules>, Vec<String>) {
        if self == Self::default() {
            return (Arc::clone(base), Vec::new());
        }
        let Self { mode, errors_max, latency_max_increase, watch, port, path, preset, calls, mut faults } = self;
        let mut rules = Rules::clone(base);
        rules.mode = mode.unwrap_or(rules.mode);
        rules.errors.max = errors_max.unwrap_or(rules.errors.max);
        rules.latency.max_increase = latency_max_increase.unwrap_or(rules.latency.max_increase);
        rules.watch = watch.unwrap_or(rules.watch);
        rules.metrics.port = port.or(rules.metrics.port);
        rules.metrics.path = path.or(rules.metrics.path);
        if let Some(calls) = calls {
            rules.calls = calls;
        }
        match preset {
            Some(Preset::Custom) if rules.metrics.custom.is_none() => faults.push(format!(
                "annotation {PREFIX}preset: \"custom\" needs queries, and the policy \"{}\" has none: write them in the thresholds file",
                rules.policy
            )),
            Some(preset) => {
                rules.metrics.preset = preset;
                if preset != Preset::Custom {
                    rules.metrics.custom = None;
                }
            }
            None => {}
        }
        if !faults.is_empty() && rules.mode == Mode::Act {
            rules.mode = Mode::Observe;
        }
        (Arc::new(rules), faults)
    }
}

/// `payments, shop/Deployment/db`; nothing at all calls nobody.
fn read_calls(value: &str) -> Result<Vec<Callee>, String> {
    let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
    if names.clone().count() > CALLS_MAX {
        return Err(format!("more than {CALLS_MAX} workloads are named; name those without which it cannot answer"));
    }
    names.map(|name| CalleeText::read(name).map(|callee| callee.0)).collect()
}

/// The words of [`PresetName`]; a test keeps them in step.
pub(crate) const PRESETS: [&str; 11] =
    ["auto", "go", "spring", "otel", "grpc", "istio", "linkerd", "ingress-nginx", "envoy-gateway", "traefik", "custom"];

fn word<'de, T: Deserialize<'de>>(value: &'de str, words: &[&str]) -> Result<T, String> {
    let text: serde::de::value::StrDeserializer<'de, serde::de::value::Error> =
        serde::de::IntoDeserializer::into_deserializer(value);
    T::deserialize(text).map_err(|_| match nearest(value, words.iter().copied()) {
        Some(near) => format!("\"{}\" is not known here; did you mean \"{near}\"?", short(value)),
        None => format!("\"{}\" is not known here; write one of {}", short(value), words.join(", ")),
    })
}

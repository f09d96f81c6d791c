//! Pure. Settings and thresholds written back, every key given and every unit normalised.

use super::{
    Settings, Thresholds,
    raw::{RawPolicy, RawRules, RawThresholds},
    thresholds::{API_VERSION, THRESHOLDS_KIND},
    values::Label,
};
use crate::domain::Rules;
use serde::Serialize;

/// What stands in the place of a value that may be a secret.
const HIDDEN: &str = "(hidden)";

/// How something is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Notation {
    /// YAML, as in the files.
    #[default]
    Yaml,
    /// JSON with the same keys.
    Json,
}

impl std::str::FromStr for Notation {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "yaml" => Ok(Notation::Yaml),
            "json" => Ok(Notation::Json),
            _ => Err("write yaml or json".into()),
        }
    }
}

impl Notation {
    fn write(self, value: &impl Serialize) -> Result<String, String> {
        match self {
            Notation::Yaml => serde_saphyr::to_string(value).map_err(|e| format!("cannot write YAML: {e}")),
            Notation::Json => serde_json::to_string_pretty(value)
                .map(|text| text + "\n")
                .map_err(|e| format!("cannot write JSON: {e}")),
        }
    }
}

impl Settings {
    /// The settings in force. Header values are hidden: some carry keys.
    ///
    /// # Errors
    /// A path that is not UTF-8.
    pub fn shown(&self, notation: Notation) -> Result<String, String> {
        let mut settings = self.clone();
        for value in settings.sources.prometheus.iter_mut().flat_map(|p| p.headers.values_mut()) {
            HIDDEN.clone_into(value);
        }
        notation.write(&settings)
    }
}

impl Thresholds {
    /// The thresholds in force; policies with everything that they inherit.
    ///
    /// # Errors
    /// Those of the notation; none are known.
    pub fn shown(&self, notation: Notation) -> Result<String, String> {
        let policy = |p: &super::Policy| {
            let RawRules {
                mode,
                watch,
                late_watch,
                min_requests,
                errors,
                latency,
                metrics,
                calls,
                health,
                severity,
                undo,
            } = (&*p.rules).into();
            let (name, matches) = (Some(Label(p.name.clone())), Some(p.raw_match().clone()));
            RawPolicy {
                name,
                matches,
                mode,
                watch,
                late_watch,
                min_requests,
                errors,
                latency,
                metrics,
                calls,
                health,
                severity,
                undo,
            }
        };
        notation.write(&RawThresholds {
            api_version: Some(API_VERSION.into()),
            kind: Some(THRESHOLDS_KIND.into()),
            defaults: Some((&*self.defaults).into()),
            policies: Some(self.policies.iter().map(policy).collect()),
        })
    }
}

/// The rules of one workload, as a block of a thresholds file.
///
/// # Errors
/// Those of the notation; none are known.
pub fn rules_shown(rules: &Rules, notation: Notation) -> Result<String, String> {
    notation.write(&RawRules::from(rules))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn back(text: &str) -> Thresholds {
        Thresholds::parse("shown", text).unwrap_or_else(|f| panic!("{f}\n{text}"))
    }

    #[test]
    fn what_is_shown_reads_back_the_same() {
        let text = "apiVersion: lastgood.dev/v1\nkind: Thresholds\n\
            defaults: {errors: {max: 0.015}, watch: 90s, metrics: {preset: custom, custom: {requests: 'a{b=\"c\"}', errors: '# no comment'}}}\n\
            policies:\n- name: '1.10'\n  match: {namespaces: ['*'], labels: {version: '1.10', sha: 08e5, 'a.b/c': 'true'}}\n  mode: off\n\
            \x20 metrics: {preset: go}\n  health: [{name: x, via: {service: web}, port: 80, path: '/a?b=%20', timeout: 150ms}]\n\
            - {name: b, match: {}, undo: {allowOwners: [flux]}}\n";
        let t = back(text);
        for notation in [Notation::Yaml, Notation::Json] {
            let again = back(&t.shown(notation).unwrap());
            assert_eq!((&again.defaults, &again.policies), (&t.defaults, &t.policies));
        }
        let empty = Thresholds::default();
        assert_eq!(back(&empty.shown(Notation::Yaml).unwrap()).defaults, empty.defaults);
    }

    #[test]
    fn settings_read_back_the_same_but_hide_header_values() {
        let text = "cluster: '1.10'\nsources: {prometheus: {url: http://x:1, headers: {X-Key: s3cret}}}\n\
                    notifiers: [{name: a, type: slack, urlFile: /u}]\n";
        let mut settings = Settings::parse("t", text, []).unwrap();
        let shown = settings.shown(Notation::Yaml).unwrap();
        assert!(!shown.contains("s3cret"), "{shown}");
        settings.sources.prometheus.as_mut().unwrap().headers.insert("X-Key".into(), HIDDEN.into());
        assert_eq!(Settings::parse("t", &shown, []).unwrap(), settings);
        assert_eq!(
            Settings::parse("t", &Settings::default().shown(Notation::Yaml).unwrap(), []).unwrap(),
            Settings::default()
        );
    }

    proptest! {
        #[test]
        fn label_values_survive_whatever_they_look_like(value in "[-A-Za-z0-9_.]{0,20}", permille in 1u32..1000, watch in 1u64..600_000) {
            let text = format!(
                "apiVersion: lastgood.dev/v1\nkind: Thresholds\ndefaults: {{watch: {watch}s, errors: {{max: {}%}}}}\n\
                 policies: [{{name: a, match: {{labels: {{l: '{value}'}}}}}}]\n",
                f64::from(permille) / 10.0
            );
            let t = back(&text);
            let again = back(&t.shown(Notation::Yaml).unwrap());
            prop_assert_eq!(&again.policies[0].raw_match(), &t.policies[0].raw_match());
            prop_assert_eq!(again.defaults.watch, t.defaults.watch);
            prop_assert!((again.defaults.errors.max - t.defaults.errors.max).abs() < 1e-12);
        }
    }
}

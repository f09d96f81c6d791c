//! Pure. `thresholds.yaml`: which rules hold for which workload.

use super::{
    Fault, Faults,
    annotations::Overrides,
    decode::decode,
    raw::{RawMatch, RawPolicy, RawRules, RawThresholds},
    resolve::{Block, check_frame, check_rules},
    tree::Node,
    values::glob_matches,
};
use crate::domain::{Kind, Rules};
use std::{collections::BTreeMap, sync::Arc};

/// The `apiVersion` that this program reads.
pub const API_VERSION: &str = "lastgood.dev/v1";
/// The `kind` of the thresholds file.
pub const THRESHOLDS_KIND: &str = "Thresholds";

/// Which rules hold for which workload. Workloads share the rules of their policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Thresholds {
    /// Rules of every workload that no policy matches.
    pub defaults: Arc<Rules>,
    /// In the order of the file: the first that matches wins.
    pub policies: Vec<Policy>,
    hash: String,
}

/// Rules for some workloads.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// The rules, with what is inherited from the defaults.
    pub rules: Arc<Rules>,
    matches: RawMatch,
}

/// What decides which rules hold for a workload.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Its annotations; those under `lastgood.dev/` win over policies.
    pub annotations: &'a BTreeMap<String, String>,
}

/// The rules of one workload.
#[derive(Debug, Clone, PartialEq)]
pub struct RulesFor {
    /// The rules; shared with other workloads unless annotations changed them.
    pub rules: Arc<Rules>,
    /// What is wrong with its annotations, a sentence each. With any, the mode is `observe` at most.
    pub faults: Vec<String>,
}

impl Default for Thresholds {
    /// The built-in defaults and no policies: what holds without a file. The hash is that of an empty text.
    fn default() -> Self {
        Self { defaults: Arc::default(), policies: Vec::new(), hash: text_hash("") }
    }
}

impl Thresholds {
    /// Reads the text of a thresholds file. `file` stands in the faults.
    ///
    /// # Errors
    /// All faults of the text, in order of place.
    pub fn parse(file: &str, text: &str) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let mut tree = Node::parse(file, text, &mut faults).map_err(|fault| Faults(vec![fault]))?;
        if tree.is_empty() {
            let hint = format!(
                "begin with apiVersion: {API_VERSION} and kind: {THRESHOLDS_KIND}; remove the file to use the defaults"
            );
            return Err(Faults::one(file, "the file is empty", hint));
        }
        let unread = faults.0.len();
        let Some(raw) = decode::<RawThresholds>(file, &mut tree, &mut faults) else {
            return Err(faults.into_result().err().unwrap_or_default());
        };
        let cut = faults.0.len() > unread;
        check_head(file, &tree, &raw, cut, &mut faults);
        let thresholds = resolve(file, text, &tree, raw, cut, &mut faults);
        faults.into_result().map(|()| thresholds)
    }

    /// The first 12 hexadecimal digits of the SHA-256 of the text.
    pub fn hash(&self) -> String {
        self.hash.clone()
    }

    /// The rules of one workload: annotations over the first policy that matches, over the defaults.
    ///
    /// Malformed annotations are left out and told, and then nothing is acted on: a configuration
    /// that is not understood is no permission. Never fails.
    pub fn rules_for(&self, facts: &Facts<'_>) -> RulesFor {
        let base = self.policies.iter().find(|p| p.matches(facts)).map_or(&self.defaults, |p| &p.rules);
        let overrides = Overrides::read(facts.annotations);
        let (rules, faults) = overrides.over(base);
        RulesFor { rules, faults }
    }
}

impl Policy {
    /// Whether it matches: every key that is given must.
    pub fn matches(&self, facts: &Facts<'_>) -> bool {
        let RawMatch { namespaces, kinds, names, labels } = &self.matches;
        namespaces.as_ref().is_none_or(|all| all.iter().any(|g| glob_matches(&g.0, facts.namespace)))
            && kinds.as_ref().is_none_or(|all| all.contains(&facts.kind))
            && names.as_ref().is_none_or(|all| all.iter().any(|g| glob_matches(&g.0, facts.name)))
            && labels.as_ref().is_none_or(|all| {
                all.iter().all(|(key, glob)| facts.labels.get(key).is_some_and(|value| glob_matches(&glob.0, value)))
            })
    }

    /// What it matches, as it would be written.
    pub(crate) fn raw_match(&self) -> &RawMatch {
        &self.matches
    }
}

/// The first 12 hexadecimal digits of the SHA-256 of a text.
pub(crate) fn text_hash(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

fn check_head(file: &str, tree: &Node, raw: &RawThresholds, cut: bool, faults: &mut Faults) {
    for (key, found, expected) in [("apiVersion", &raw.api_version, API_VERSION), ("kind", &raw.kind, THRESHOLDS_KIND)]
    {
        let (at, message) = match found {
            Some(found) if found == expected => continue,
            Some(found) => {
                let found = super::wrong::short(found);
                (tree.place(&[key]), format!("{key} is \"{found}\", and this version of Lastgood reads \"{expected}\""))
            }
            None if cut && tree.get(key).is_none() && faults.0.iter().any(|f| f.message.starts_with(key)) => continue,
            None => (tree.at, format!("the key \"{key}\" is missing")),
        };
        faults.0.push(Fault {
            file: file.into(),
            line: at.line,
            column: at.column,
            message,
            hint: format!("write {key}: {expected}"),
        });
    }
}

fn resolve(file: &str, text: &str, tree: &Node, raw: RawThresholds, cut: bool, faults: &mut Faults) -> Thresholds {
    let raw_defaults = raw.defaults.unwrap_or_default();
    let defaults = raw_defaults.over(&Rules::default(), "defaults");
    let block = Block { file, node: tree.get("defaults"), title: "defaults".into(), cut };
    check_rules(&raw_defaults, &defaults, None, &block, faults);

    let raw_policies = raw.policies.unwrap_or_default();
    let mut policies = Vec::with_capacity(raw_policies.len());
    for (i, policy) in raw_policies.iter().enumerate() {
        let name = policy.name.as_ref().map_or_else(String::new, |n| n.0.clone());
        let title = match name.as_str() {
            "" => format!("policy {}", i + 1),
            name => format!("policy \"{name}\""),
        };
        let node = tree.get("policies").and_then(|list| list.item(i));
        let block = Block { file, node, title, cut };
        check_frame(policy, &raw_policies[..i], &block, faults);
        let matches = policy.matches.clone().unwrap_or_default();
        let raw_rules: RawRules = RawPolicy::into_rules(policy.clone());
        let rules = raw_rules.over(&defaults, &name);
        check_rules(&raw_rules, &rules, matches.kinds.as_deref(), &block, faults);
        policies.push(Policy { name, rules: Arc::new(rules), matches });
    }
    Thresholds { defaults: Arc::new(defaults), policies, hash: text_hash(text) }
}

#[cfg(test)]
#[path = "thresholds_tests.rs"]
mod tests;

//! Pure. YAML text to a tree that keeps, for every key and value, its place and its spelling.
//!
//! The tree stands between the parser and our types for three reasons: all faults can be told at
//! once (a typed parser stops at the first), duplicate keys are seen with their place, and a tag
//! such as `1.10` or `08e5` keeps its spelling because nothing is guessed from it.

use super::{Fault, Faults, wrong::short};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{DuplicateKeyPolicy, NonFiniteFloatPolicy, Spanned};
use std::{collections::HashMap, fmt};

/// Longest configuration text that is read, in bytes; a ConfigMap holds at most this much.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// Deepest nesting that is read; our files need eight levels. The parser recurses, and at 50 levels of mappings
/// it has run over the two megabytes of a thread's stack.
const MAX_DEPTH: usize = 24;

/// Where something stands in its file: line and column from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    pub(crate) line: u64,
    pub(crate) column: u64,
}

/// One node of the tree.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) at: Place,
    pub(crate) body: Body,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body {
    /// No value, `~` or `null`.
    Null,
    /// A scalar as it is spelled; without its quotes.
    Text(String),
    Seq(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key with its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_at: Place,
    pub(crate) value: Node,
}

impl Node {
    /// Reads one YAML document. Duplicate keys are faults, and the later one is left out of the tree.
    ///
    /// # Errors
    /// The fault that stopped the parser, or that the text is empty or too long.
    pub(crate) fn parse(file: &str, text: &str, faults: &mut Faults) -> Result<Node, Fault> {
        let fault = |line, column, message: String, hint: &str| Fault {
            file: file.into(),
            line,
            column,
            message,
            hint: hint.into(),
        };
        if text.len() > MAX_BYTES {
            let message = format!("the file is too long: {} bytes of at most {MAX_BYTES}", text.len());
            return Err(fault(0, 0, message, "a configuration does not get this long; is it the right file?"));
        }
        if let Some((before, _)) = text.split_once('\0') {
            let line = before.rsplit('\n').next().unwrap_or_default();
            let (line, column) = (before.matches('\n').count() + 1, line.chars().count() + 1);
            let message = "a NUL byte stands here, so the file is not YAML".to_owned();
            return Err(fault(line as u64, column as u64, message, "is it the right file?"));
        }
        let options = serde_saphyr::options! {
            with_snippet: false,
            duplicate_keys: DuplicateKeyPolicy::PassThrough,
            non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
            budget: serde_saphyr::budget! { max_depth: MAX_DEPTH },
            alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 20_000 },
        };
        let raw: Raw = serde_saphyr::from_str_with_options(text, options).map_err(|e| {
            let at = e.location().map_or((0, 0), |l| (l.line(), l.column()));
            fault(at.0, at.1, format!("this is not valid YAML: {}", reason(&e)), "check indentation and quotes here")
        })?;
        Ok(raw.into_node(file, text, faults))
    }

    /// Whether the document holds nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.body == Body::Null
    }

    /// The value behind a key of a mapping.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.body {
            Body::Map(entries) => entries.iter().find(|e| e.key == key).map(|e| &e.value),
            _ => None,
        }
    }

    /// One element of a list.
    pub(crate) fn item(&self, position: usize) -> Option<&Node> {
        match &self.body {
            Body::Seq(items) => items.get(position),
            _ => None,
        }
    }

    /// The place of the value that a path leads to; steps are keys or positions in a list. Where
    /// the path ends early, the place of the last node that is there.
    pub(crate) fn place(&self, path: &[&str]) -> Place {
        let Some((step, rest)) = path.split_first() else { return self.at };
        let next = self.get(step).or_else(|| self.item(step.parse().ok()?));
        next.map_or(self.at, |node| node.place(rest))
    }
}

/// The parser's own message without the place, which stands before it already.
fn reason(e: &serde_saphyr::Error) -> String {
    let text = e.without_snippet().to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.split(" at line ").next().unwrap_or(line);
    // What follows tells programmers which function to call.
    let line = line.split("; use ").next().unwrap_or(line);
    line.trim_end_matches([':', '.', ' ']).to_owned()
}

/// A node as the parser hands it over.
struct Raw(Spanned<RawBody>);

enum RawBody {
    Null,
    /// A string: its text is what the parser says.
    Text(String),
    /// Something that YAML would turn into a number or a truth value: its text is what the file says.
    Guessed(String),
    Seq(Vec<Raw>),
    Map(Vec<(Spanned<String>, Raw)>),
}

impl Raw {
    fn into_node(self, file: &str, text: &str, faults: &mut Faults) -> Node {
        let (referenced, defined) = (self.0.referenced, self.0.defined);
        let body = match self.0.value {
            RawBody::Null => Body::Null,
            RawBody::Text(t) => Body::Text(t),
            RawBody::Guessed(parsed) => {
                let span = defined.span();
                let spelled = span.byte_offset().zip(span.byte_len()).and_then(|(start, length)| {
                    let (start, length) = (usize::try_from(start).ok()?, usize::try_from(length).ok()?);
                    text.get(start..start.checked_add(length)?)
                });
                match spelled.map(str::trim) {
                    // An explicit tag or anchor may be part of the span.
                    Some(s) if !s.is_empty() && !s.starts_with(['!', '&', '*']) => Body::Text(s.to_owned()),
                    _ => Body::Text(parsed),
                }
            }
            RawBody::Seq(items) => Body::Seq(items.into_iter().map(|i| i.into_node(file, text, faults)).collect()),
            RawBody::Map(pairs) => {
                let mut entries: Vec<Entry> = Vec::with_capacity(pairs.len());
                let mut first_lines: HashMap<String, u64> = HashMap::with_capacity(pairs.len());
                for (key, value) in pairs {
                    let at = Place { line: key.referenced.line(), column: key.referenced.column() };
                    let (key, value) = (key.value, value.into_node(file, text, faults));
                    if let Some(first) = first_lines.get(&key) {
                        faults.0.push(Fault {
                            file: file.into(),
                            line: at.line,
                            column: at.column,
                            message: format!("the key \"{}\" stands here twice, first in line {first}", short(&key)),
                            hint: "remove one of them".into(),
                        });
                    } else {
                        first_lines.insert(key.clone(), at.line);
                        entries.push(Entry { key, key_at: at, value });
                    }
                }
                Body::Map(entries)
            }
        };
        Node { at: Place { line: referenced.line(), column: referenced.column() }, body }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Spanned::deserialize(d).map(Raw)
    }
}

impl<'de> Deserialize<'de> for RawBody {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct AnyBody;
        impl<'de> Visitor<'de> for AnyBody {
            type Value = RawBody;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<RawBody, E> {
                Ok(RawBody::Null)
            }
            fn visit_none<E>(self) -> Result<RawBody, E> {
                Ok(RawBody::Null)
            }
            fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<RawBody, D::Error> {
                RawBody::deserialize(d)
            }
            fn visit_bool<E>(self, v: bool) -> Result<RawBody, E> {
                Ok(RawBody::Guessed(v.to_string()))
            }
            fn visit_i64<E>(self, v: i64) -> Result<RawBody, E> {
                Ok(RawBody::Guessed(v.to_string()))
            }
            fn visit_u64<E>(self, v: u64) -> Result<RawBody, E> {
                Ok(RawBody::Guessed(v.to_string()))
            }
            fn visit_i128<E>(self, v: i128) -> Result<RawBody, E> {
                Ok(RawBody::Guessed(v.to_string()))
            }
            fn visit_u128<E>(self, v: u128) -> Result<RawBody, E> {
                Ok(RawBody::Guessed(v.to_string()))
            }
            fn visit_f64<E>(self, v: f64) -> Result<RawBody, E> {
                Ok(RawBody::Guessed(v.to_string()))
            }
            fn visit_str<E>(self, v: &str) -> Result<RawBody, E> {
                Ok(RawBody::Text(v.to_owned()))
            }
            fn visit_string<E>(self, v: String) -> Result<RawBody, E> {
                Ok(RawBody::Text(v))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawBody, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(RawBody::Seq(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawBody, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(RawBody::Map(pairs))
            }
        }
        d.deserialize_any(AnyBody)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Node {
        let mut faults = Faults::default();
        let node = Node::parse("t.yaml", text, &mut faults).unwrap();
        assert_eq!(faults, Faults::default());
        node
    }

    #[test]
    fn every_scalar_keeps_its_spelling() {
        for spelled in [
            "1.10",
            "08e5",
            "0x1F",
            "1e3",
            "off",
            "no",
            "yes",
            "true",
            "007",
            "12345678901234567890123",
            "1_000",
            ".nan",
            "-.inf",
            "+5",
            "5%",
            "3/10m",
            "2026-01-02",
            "1.9",
            "0o17",
            "-0",
            "1.0",
        ] {
            for text in
                [format!("a: {spelled}\n"), format!("a: {spelled}"), format!("é: [{spelled}, x]\na: {spelled} # c")]
            {
                assert_eq!(tree(&text).get("a").unwrap().body, Body::Text(spelled.into()), "{text}");
            }
            assert_eq!(tree(&format!("a: \"{spelled}\"")).get("a").unwrap().body, Body::Text(spelled.into()));
            let aliased = tree(&format!("b: &x {spelled}\na: *x\n"));
            assert_eq!(aliased.get("b").unwrap().body, Body::Text(spelled.into()));
            assert_eq!(aliased.get("a").unwrap().body, Body::Text(spelled.into()));
        }
    }

    #[test]
    fn places_count_from_one_in_characters() {
        let node = tree("a: 1\nlist:\n- x: é\n  y: 2\n");
        assert_eq!(node.place(&["a"]), Place { line: 1, column: 4 });
        assert_eq!(node.place(&["list", "0", "y"]), Place { line: 4, column: 6 });
        assert_eq!(node.place(&["list", "0", "gone"]), Place { line: 3, column: 3 });
    }

    #[test]
    fn a_duplicate_key_is_told_with_both_places() {
        let mut faults = Faults::default();
        Node::parse("t.yaml", "a: 1\nb: {c: 1, c: 2}\na: 2\n", &mut faults).unwrap();
        assert_eq!(
            faults.to_string(),
            "t.yaml:2:11: the key \"c\" stands here twice, first in line 2: remove one of them\n\
             t.yaml:3:1: the key \"a\" stands here twice, first in line 1: remove one of them"
        );
    }

    #[test]
    fn text_that_is_not_yaml_names_the_place() {
        for text in ["a: [1, 2\nb: 3\n", "a: \"x\n", "a: b: c\n", "a:\n\tx: 1\n", "a: 1\n---\nb: 2\n", "a: *nobody\n"] {
            let fault = Node::parse("t.yaml", text, &mut Faults::default()).unwrap_err();
            assert!(fault.line > 0, "{text:?}: {fault}");
            assert!(!fault.message.contains(" at line ") && !fault.message.contains("from_str"), "{fault}");
        }
    }

    #[test]
    fn hostile_texts_end_in_a_fault() {
        let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
        assert!(Node::parse("t", &deep, &mut Faults::default()).is_err());
        let laughs = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                      d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
                      g: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
        assert!(Node::parse("t", laughs, &mut Faults::default()).is_err());
        assert!(Node::parse("t", &"x".repeat(MAX_BYTES + 1), &mut Faults::default()).is_err());
        assert!(Node::parse("t", "a: \0", &mut Faults::default()).is_err());
    }
}

//! Pure. A tree to a typed value through serde, all faults at once.
//!
//! serde stops at the first fault. So each fault is noted with its place, the part that caused it
//! is cut out of the tree, and decoding starts over, until it succeeds or nothing is left. Files
//! have a few hundred nodes, so this costs nothing that matters.

use super::{
    Fault, Faults,
    tree::{Body, Entry, Node, Place},
    wrong::{Wrong, short},
};
use serde::{
    de::{
        self, DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
        Visitor, value::StrDeserializer,
    },
    forward_to_deserialize_any,
};

/// A file with more faults than this is not worth listing further.
const MOST_FAULTS: usize = 100;

/// Decodes what can be decoded; whatever cannot is noted in `faults` and cut out of `tree`.
/// `None` when the document as a whole cannot be read.
pub(crate) fn decode<T: DeserializeOwned>(file: &str, tree: &mut Node, faults: &mut Faults) -> Option<T> {
    let mut gone: Vec<(Place, String)> = Vec::new();
    loop {
        match T::deserialize(Decoder(tree)) {
            Ok(value) => return Some(value),
            // A key that was cut out is not missing; what needs it goes with it.
            Err(wrong) if wrong.misses(&gone) => {
                if !cut(tree, &wrong.path, &mut gone) {
                    return None;
                }
            }
            Err(wrong) => {
                let at = wrong.at.unwrap_or(tree.at);
                let message = match wrong.keys() {
                    keys if keys.is_empty() => wrong.message.clone(),
                    keys => format!("{keys}: {}", wrong.message),
                };
                faults.0.push(Fault {
                    file: file.into(),
                    line: at.line,
                    column: at.column,
                    message,
                    hint: wrong.hint.clone(),
                });
                if faults.0.len() >= MOST_FAULTS || !cut(tree, &wrong.path, &mut gone) {
                    return None;
                }
            }
        }
    }
}

/// Cuts out the node at `path`, which is in order from the leaf to the root; keys that go are noted
/// with the place of their mapping.
fn cut(tree: &mut Node, path: &[usize], gone: &mut Vec<(Place, String)>) -> bool {
    let Some((step, rest)) = path.split_last() else { return false };
    match (&mut tree.body, rest.is_empty()) {
        (Body::Seq(items), true) if *step < items.len() => drop(items.remove(*step)),
        (Body::Map(entries), true) if *step < entries.len() => gone.push((tree.at, entries.remove(*step).key)),
        (Body::Seq(items), false) => return items.get_mut(*step).is_some_and(|n| cut(n, rest, gone)),
        (Body::Map(entries), false) => return entries.get_mut(*step).is_some_and(|e| cut(&mut e.value, rest, gone)),
        _ => return false,
    }
    true
}

#[derive(Clone, Copy)]
struct Decoder<'a>(&'a Node);

impl<'a> Decoder<'a> {
    fn text(self, expected: &str) -> Result<&'a str, Wrong> {
        match &self.0.body {
            Body::Text(t) => Ok(t),
            other => Err(unfit(other, expected)),
        }
    }

    fn number<T: std::str::FromStr>(self, what: &str) -> Result<T, Wrong> {
        let text = self.text(what)?;
        text.parse().map_err(|_| Wrong::new(format!("\"{}\" is not {what}", short(text)), ""))
    }
}

fn unfit(found: &Body, expected: &str) -> Wrong {
    match found {
        Body::Null => Wrong::new("there is no value", "write one, or remove the key"),
        Body::Text(t) => Wrong::new(format!("expected {expected}, found \"{}\"", short(t)), ""),
        Body::Seq(_) => Wrong::new(format!("expected {expected}, found a list"), ""),
        Body::Map(_) => Wrong::new(format!("expected {expected}, found a mapping"), ""),
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $what:literal),+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            visitor.$visit(self.number($what)?)
        })+
    };
}

impl<'de> de::Deserializer<'de> for Decoder<'_> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.0.body {
            Body::Null => Err(unfit(&self.0.body, "a value")),
            Body::Text(t) => visitor.visit_str(t),
            Body::Seq(_) => self.deserialize_seq(visitor),
            Body::Map(_) => self.deserialize_map(visitor),
        }
    }

    numbers!(
        deserialize_i64 visit_i64 "a whole number",
        deserialize_u64 visit_u64 "a whole number from 0",
        deserialize_i32 visit_i64 "a whole number",
        deserialize_u32 visit_u64 "a whole number from 0",
        deserialize_i16 visit_i64 "a whole number",
        deserialize_u16 visit_u64 "a whole number from 0",
        deserialize_i8 visit_i64 "a whole number",
        deserialize_u8 visit_u64 "a whole number from 0"
    );

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let number: f64 = self.number("a number")?;
        if !number.is_finite() {
            return Err(Wrong::new(format!("{number} is not a finite number"), ""));
        }
        visitor.visit_f64(number)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.text("true or false")? {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            other => Err(Wrong::new(format!("\"{}\" is neither true nor false", short(other)), "write true or false")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_str(self.text("a text")?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.0.body {
            // A key without a value is more often a slip than a wish.
            Body::Null => Err(unfit(&self.0.body, "a value")),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.0.body {
            Body::Seq(items) => visitor.visit_seq(Items { items, next: 0 }),
            Body::Text(t) => {
                Err(Wrong::new(format!("expected a list, found \"{}\"", short(t)), format!("write [{}]", short(t))))
            }
            other => Err(unfit(other, "a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.0.body {
            Body::Map(entries) => visitor.visit_map(Entries { entries, next: 0 }),
            other => Err(unfit(other, "a mapping of keys to values")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match &self.0.body {
            Body::Text(t) => visitor.visit_enum(StrDeserializer::<Wrong>::new(t)),
            Body::Map(entries) if entries.len() == 1 => visitor.visit_enum(Choice(&entries[0])),
            other => Err(unfit(other, &format!("one of {}", variants.join(", ")))),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { i128 u128 char string bytes byte_buf unit unit_struct tuple tuple_struct identifier }
}

struct Items<'a> {
    items: &'a [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Wrong;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong> {
        let Some(item) = self.items.get(self.next) else { return Ok(None) };
        let position = self.next;
        self.next += 1;
        seed.deserialize(Decoder(item)).map(Some).map_err(|e| e.inside(position, None, item.at))
    }
}

struct Entries<'a> {
    entries: &'a [Entry],
    next: usize,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Wrong;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong> {
        let Some(entry) = self.entries.get(self.next) else { return Ok(None) };
        let key: StrDeserializer<'_, Wrong> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|e| e.inside(self.next, None, entry.key_at))
    }
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        let Some(entry) = self.entries.get(self.next) else {
            return Err(Wrong::new("a key has no value", "write one, or remove the key"));
        };
        let position = self.next;
        self.next += 1;
        seed.deserialize(Decoder(&entry.value)).map_err(|e| {
            e.inside(position, Some(&entry.key), if entry.value.is_empty() { entry.key_at } else { entry.value.at })
        })
    }
}

/// `{variant: content}`.
struct Choice<'a>(&'a Entry);

impl<'de> EnumAccess<'de> for Choice<'_> {
    type Error = Wrong;
    type Variant = Self;
    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Wrong> {
        let key: StrDeserializer<'_, Wrong> = self.0.key.as_str().into_deserializer();
        match seed.deserialize(key) {
            Ok(variant) => Ok((variant, self)),
            Err(mut e) => {
                e.0.at = Some(self.0.key_at);
                Err(e)
            }
        }
    }
}

impl<'de> VariantAccess<'de> for Choice<'_> {
    type Error = Wrong;
    fn unit_variant(self) -> Result<(), Wrong> {
        Err(Wrong::new("this choice takes no value", "write it as a word alone"))
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Wrong> {
        seed.deserialize(Decoder(&self.0.value)).map_err(|e| e.within_choice(self.0, self.0.value.at))
    }
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Wrong> {
        Err(Wrong::new("this choice takes no list", ""))
    }
    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Wrong> {
        Err(Wrong::new("this choice takes no mapping", ""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Thing {
        name: Option<String>,
        count: Option<u16>,
        on: Option<bool>,
        list: Option<Vec<Thing>>,
        how: Option<How>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum How {
        Plain,
        Named(String),
    }

    fn read(text: &str) -> (Option<Thing>, String) {
        let mut faults = Faults::default();
        let mut tree = Node::parse("t", text, &mut faults).unwrap();
        let thing = decode("t", &mut tree, &mut faults);
        (thing, faults.to_string())
    }

    #[test]
    fn all_faults_come_at_once_and_the_rest_is_read() {
        let (thing, faults) = read(
            "nmae: x\nname: ok\ncount: 70000\non: yes\nlist:\n- count: x\n  name: 1.10\n- [1]\n- how: {named: 08e5}\n",
        );
        assert_eq!(
            faults,
            "t:1:1: unknown key \"nmae\": did you mean \"name\"?\n\
             t:3:8: count: 70000 is out of range, expected u16\n\
             t:4:5: on: \"yes\" is neither true nor false: write true or false\n\
             t:6:10: list.count: \"x\" is not a whole number from 0\n\
             t:8:3: list: expected a mapping of keys to values, found a list"
        );
        let thing = thing.unwrap();
        assert_eq!(thing.name.as_deref(), Some("ok"));
        let list = thing.list.unwrap();
        assert_eq!(list[0].name.as_deref(), Some("1.10"));
        assert_eq!(list[1].how, Some(How::Named("08e5".into())));
    }

    #[test]
    fn enums_and_empty_values() {
        assert_eq!(read("how: plain").0.unwrap().how, Some(How::Plain));
        assert_eq!(read("how: plan").1, "t:1:6: how: \"plan\" is not known here: did you mean \"plain\"?");
        assert_eq!(read("how: [x]").1, "t:1:6: how: expected one of plain, named, found a list");
        assert_eq!(read("how: {plain: x}").1, "t:1:6: how: this choice takes no value: write it as a word alone");
        assert_eq!(read("name:\ncount: 1").1, "t:1:1: name: there is no value: write one, or remove the key");
        assert_eq!(
            read("list: production").1,
            "t:1:7: list: expected a list, found \"production\": write [production]"
        );
    }

    #[test]
    fn a_root_that_is_no_mapping_is_one_fault() {
        let (thing, faults) = read("- a\n- b\n");
        assert_eq!(thing, None);
        assert_eq!(faults, "t:1:1: expected a mapping of keys to values, found a list");
    }
}

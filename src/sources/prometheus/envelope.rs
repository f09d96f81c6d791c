//! Pure. The answer of the Prometheus HTTP API, read by us because the client crate drops `warnings`,
//! `infos` and `isPartial` (stack.md trap 15): a partial answer would look complete.

use crate::sources::error::{SourceError, one_line};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::{collections::BTreeMap, fmt};

/// One series: its labels and `(time in seconds, value)`. An instant vector has one point.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) points: Vec<(f64, f64)>,
    /// Values that are no numbers (`"NaN"`, `"+Inf"`, `"1e999"`, texts, native histograms).
    pub(super) malformed: u64,
}

impl Series {
    /// A label's value; an absent label is empty, as in PromQL.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

#[derive(Debug, Default)]
struct Envelope {
    status: String,
    kind: String,
    message: String,
    warnings: Vec<String>,
    partial: bool,
    result_type: String,
    series: Option<Vec<Series>>,
    too_many: bool,
}

/// Reads the series of a vector or matrix.
///
/// # Errors
/// [`SourceError::NotPrometheus`] when the text is not such an envelope, [`SourceError::Query`] when it
/// reports an error, [`SourceError::Partial`] for warnings and `isPartial`, [`SourceError::TooManySeries`].
pub(super) fn parse(body: &[u8], max_series: usize) -> Result<Vec<Series>, SourceError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let envelope = EnvelopeSeed(max_series).deserialize(&mut json).and_then(|envelope| json.end().map(|()| envelope));
    let envelope = envelope.map_err(|e| {
        // serde_json's own text may quote the answer; its place and class do not.
        SourceError::NotPrometheus(format!("the answer is not the JSON of its API (at byte column {})", e.column()))
    })?;
    if envelope.status == "error" {
        return Err(SourceError::Query { kind: one_line(&envelope.kind), message: one_line(&envelope.message) });
    }
    if envelope.too_many {
        return Err(SourceError::TooManySeries(max_series));
    }
    if envelope.partial {
        return Err(SourceError::Partial("the server says isPartial".into()));
    }
    if let Some(first) = envelope.warnings.first() {
        return Err(SourceError::Partial(one_line(first)));
    }
    match (envelope.status.as_str(), envelope.result_type.as_str(), envelope.series) {
        ("success", "vector" | "matrix", Some(series)) => Ok(series),
        ("success", kind, _) => Err(SourceError::NotPrometheus(format!(
            "the answer is a {}, not a vector",
            if kind.is_empty() { "thing without a type".into() } else { one_line(kind) }
        ))),
        _ => Err(SourceError::NotPrometheus("the answer has no status".into())),
    }
}

struct EnvelopeSeed(usize);

impl<'de> DeserializeSeed<'de> for EnvelopeSeed {
    type Value = Envelope;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Envelope, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EnvelopeSeed {
    type Value = Envelope;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an answer of the Prometheus API")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope, A::Error> {
        let mut envelope = Envelope::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "status" => envelope.status = map.next_value()?,
                "errorType" => envelope.kind = map.next_value()?,
                "error" => envelope.message = map.next_value()?,
                "warnings" => envelope.warnings = map.next_value::<Option<Vec<String>>>()?.unwrap_or_default(),
                "isPartial" => envelope.partial = map.next_value::<Option<bool>>()?.unwrap_or(false),
                "data" => map.next_value_seed(DataSeed { max: self.0, into: &mut envelope })?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(envelope)
    }
}

struct DataSeed<'e> {
    max: usize,
    into: &'e mut Envelope,
}

impl<'de> DeserializeSeed<'de> for DataSeed<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for DataSeed<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the data of an answer")
    }
    // An error's `data` may be null.
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "resultType" => self.into.result_type = map.next_value()?,
                "result" => {
                    self.into.series =
                        map.next_value_seed(ResultSeed { max: self.max, over: &mut self.into.too_many })?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct ResultSeed<'e> {
    max: usize,
    over: &'e mut bool,
}

impl<'de> DeserializeSeed<'de> for ResultSeed<'_> {
    type Value = Option<Vec<Series>>;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ResultSeed<'_> {
    type Value = Option<Vec<Series>>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of series")
    }
    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Some(Vec::new()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        let mut other = false;
        while let Some(element) = seq.next_element_seed(SeriesSeed { keep: all.len() < self.max })? {
            match element {
                Element::Series(series) => all.push(series),
                Element::Over => {
                    // The rest is skipped, not stored: the cap bounds memory.
                    *self.over = true;
                    while seq.next_element::<IgnoredAny>()?.is_some() {}
                    break;
                }
                Element::Other => other = true,
            }
        }
        Ok((!other).then_some(all))
    }
}

enum Element {
    Series(Series),
    Over,
    /// A scalar's `[time, "value"]` has such elements.
    Other,
}

struct SeriesSeed {
    keep: bool,
}

impl<'de> DeserializeSeed<'de> for SeriesSeed {
    type Value = Element;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Element, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for SeriesSeed {
    type Value = Element;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a series")
    }
    fn visit_f64<E: Error>(self, _: f64) -> Result<Element, E> {
        Ok(Element::Other)
    }
    fn visit_i64<E: Error>(self, _: i64) -> Result<Element, E> {
        Ok(Element::Other)
    }
    fn visit_u64<E: Error>(self, _: u64) -> Result<Element, E> {
        Ok(Element::Other)
    }
    fn visit_str<E: Error>(self, _: &str) -> Result<Element, E> {
        Ok(Element::Other)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Element, A::Error> {
        let mut series = Series { labels: BTreeMap::new(), points: Vec::new(), malformed: 0 };
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                _ if !self.keep => drop(map.next_value::<IgnoredAny>()?),
                "metric" => series.labels = map.next_value()?,
                "value" => series.push(&map.next_value()?),
                "values" => map.next_value::<Vec<(f64, serde_json::Value)>>()?.iter().for_each(|p| series.push(p)),
                "histogram" | "histograms" => {
                    series.malformed += 1;
                    map.next_value::<IgnoredAny>()?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(if self.keep { Element::Series(series) } else { Element::Over })
    }
}

impl Series {
    /// Keeps a point that is a number. Values are quoted; anything else is malformed.
    fn push(&mut self, (t, value): &(f64, serde_json::Value)) {
        let number = value.as_str().and_then(|text| text.parse::<f64>().ok()).filter(|v| v.is_finite());
        match number.filter(|_| t.is_finite()) {
            Some(number) => self.points.push((*t, number)),
            None => self.malformed += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vector(series: &str, rest: &str) -> Vec<u8> {
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}{rest}}}"#).into_bytes()
    }

    #[test]
    fn reads_a_vector_and_drops_what_is_no_number() {
        let body = vector(
            r#"{"metric":{"pod":"a"},"value":[12.5,"3"]},{"metric":{},"value":[12.5,"NaN"]},
               {"metric":{},"value":[1,"1e999"]},{"metric":{},"value":[1,7]},{"metric":{},"histogram":[1,{"count":"1"}]}"#,
            "",
        );
        let series = parse(&body, 10).unwrap();
        assert_eq!(series[0].label("pod"), "a");
        assert_eq!(series[0].points, vec![(12.5, 3.0)]);
        assert_eq!(series.iter().map(|s| s.malformed).sum::<u64>(), 4);
        assert!(series[1..].iter().all(|s| s.points.is_empty()));
    }

    #[test]
    fn reads_a_matrix() {
        let body = br#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":"b"},"values":[[1,"1"],[2,"+Inf"],[3,"4"]]}]},"infos":["x"]}"#;
        let series = parse(body, 10).unwrap();
        assert_eq!((series[0].points.clone(), series[0].malformed), (vec![(1.0, 1.0), (3.0, 4.0)], 1));
    }

    #[test]
    fn partial_answers_are_no_answers() {
        assert!(
            matches!(parse(&vector("", r#","warnings":["store x is down"]"#), 10), Err(SourceError::Partial(m)) if m.contains("store x"))
        );
        assert!(matches!(parse(&vector("", r#","isPartial":true"#), 10), Err(SourceError::Partial(_))));
        assert_eq!(parse(&vector("", r#","isPartial":false,"warnings":null,"infos":["hint"]"#), 10), Ok(vec![]));
    }

    #[test]
    fn the_cap_on_series_holds() {
        let one = r#"{"metric":{},"value":[1,"1"]}"#;
        assert_eq!(parse(&vector(&[one; 3].join(","), ""), 3).map(|s| s.len()), Ok(3));
        assert_eq!(parse(&vector(&[one; 4].join(","), ""), 3), Err(SourceError::TooManySeries(3)));
    }

    #[test]
    fn errors_are_told_apart() {
        let refused = br#"{"status":"error","errorType":"bad_data","error":"parse\nerror","data":null}"#;
        assert_eq!(
            parse(refused, 1),
            Err(SourceError::Query { kind: "bad_data".into(), message: "parse error".into() })
        );
        let scalar = br#"{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}"#;
        for other in
            [&b"<html>"[..], b"", b"{}", b"null", b"[1]", scalar, br#"{"status":"success","data":{"resultType":"vect"#]
        {
            assert!(matches!(parse(other, 1), Err(SourceError::NotPrometheus(_))), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes, 3);
        }

        #[test]
        fn a_mangled_answer_is_read_soon_or_refused(body in crate::fuzz_tests::mangled("prometheus")) {
            if let Ok(series) = crate::fuzz_tests::soon(|| parse(&body, 3)) {
                prop_assert!(series.len() <= 3);
                prop_assert!(series.iter().flat_map(|s| &s.points).all(|(t, v)| t.is_finite() && v.is_finite()));
            }
        }

        #[test]
        fn a_damaged_answer_never_panics_and_never_grows(cut in 0usize..140, flip in 0usize..140, to in any::<u8>()) {
            let mut body = vector(r#"{"metric":{"pod":"a"},"value":[12.5,"3"]},{"metric":{"pod":"b"},"value":[12.5,"4"]}"#, r#","infos":[]"#);
            let at = flip.min(body.len() - 1);
            body[at] = to;
            body.truncate(body.len().saturating_sub(cut));
            if let Ok(series) = parse(&body, 2) {
                prop_assert!(series.len() <= 2);
            }
        }
    }
}

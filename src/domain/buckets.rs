//! A cumulative latency histogram as it is observed. Pure.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeMap};
use std::{fmt, sync::Arc};

/// How an infinite bound is written, as Prometheus writes it.
const INFINITE: &str = "+Inf";

/// More bounds than any program has; each costs time and memory at every reading of every pod.
const BOUNDS_MAX: usize = 1000;

/// Bucket bounds in seconds, ascending (the last one is usually infinite), and how many requests took at most that
/// long. Written as a map from a bound's text to its count: `{"0.1": 90, "+Inf": 100}`.
///
/// Whether bounds and counts make sense is for the reader to say. What cannot be kept counts at a bound that is NaN: a
/// text that is no number, and all bounds beyond the first thousand.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Buckets {
    /// Few programs have bounds of their own: readings can share them.
    bounds: Arc<Vec<f64>>,
    counts: Vec<f64>,
}

impl Buckets {
    /// Adds to the count at `bound` seconds, which it may be the first to mention.
    pub fn add(&mut self, bound: f64, count: f64) {
        match self.place(bound) {
            Ok(at) => self.counts[at] += count,
            Err(_) if self.counts.len() >= BOUNDS_MAX && !bound.is_nan() => self.add(f64::NAN, count),
            Err(at) => {
                Arc::make_mut(&mut self.bounds).insert(at, bound);
                self.counts.insert(at, count);
            }
        }
    }

    /// The count at exactly `bound` seconds.
    pub fn get(&self, bound: f64) -> Option<f64> {
        self.place(bound).ok().map(|at| self.counts[at])
    }

    /// Bounds and counts, by bound.
    pub fn iter(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.bounds.iter().copied().zip(self.counts.iter().copied())
    }

    /// All bounds, ascending.
    pub fn bounds(&self) -> &Arc<Vec<f64>> {
        &self.bounds
    }

    /// The count at each bound.
    pub fn counts(&self) -> &[f64] {
        &self.counts
    }

    /// The same, to be changed in place.
    pub fn counts_mut(&mut self) -> &mut [f64] {
        &mut self.counts
    }

    /// Uses `known` for its own bounds, if they are the same; tells whether they are.
    pub fn share(&mut self, known: &Arc<Vec<f64>>) -> bool {
        let same = Arc::ptr_eq(&self.bounds, known) || self.bounds == *known;
        if same {
            self.bounds = Arc::clone(known);
        }
        same
    }

    fn place(&self, bound: f64) -> Result<usize, usize> {
        self.bounds.binary_search_by(|known| known.total_cmp(&bound))
    }
}

impl FromIterator<(f64, f64)> for Buckets {
    fn from_iter<I: IntoIterator<Item = (f64, f64)>>(pairs: I) -> Self {
        let mut buckets = Self::default();
        for (bound, count) in pairs {
            buckets.add(bound, count);
        }
        buckets
    }
}

impl Serialize for Buckets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.counts.len()))?;
        for (bound, count) in self.iter() {
            if bound == f64::INFINITY {
                map.serialize_entry(INFINITE, &count)?;
            } else {
                map.serialize_entry(&bound.to_string(), &count)?;
            }
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Buckets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> de::Visitor<'de> for Map {
            type Value = Buckets;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from bucket bounds in seconds to counts")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Buckets, A::Error> {
                let mut buckets = Buckets::default();
                while let Some((bound, count)) = map.next_entry::<String, f64>()? {
                    buckets.add(bound.trim().parse().unwrap_or(f64::NAN), count);
                }
                Ok(buckets)
            }
        }
        deserializer.deserialize_map(Map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_a_map_by_bound_and_read_again() {
        let buckets: Buckets = [(f64::INFINITY, 4.0), (2.5, 2.0), (10.0, 3.0), (0.005, 1.0)].into_iter().collect();
        let text = r#"{"0.005":1.0,"2.5":2.0,"10":3.0,"+Inf":4.0}"#;
        assert_eq!(serde_json::to_string(&buckets).unwrap(), text);
        assert_eq!(serde_json::from_str::<Buckets>(text).unwrap(), buckets);
        assert_eq!((buckets.get(10.0), buckets.get(f64::INFINITY), buckets.get(1.0)), (Some(3.0), Some(4.0), None));
    }

    #[test]
    fn one_bound_spelled_twice_is_one_bucket_and_what_is_no_number_is_kept_as_such() {
        let buckets: Buckets = serde_json::from_str(r#"{"1":2,"1.0":3,"inf":9}"#).unwrap();
        assert_eq!(buckets.iter().collect::<Vec<_>>(), [(1.0, 5.0), (f64::INFINITY, 9.0)]);
        let odd: Buckets = serde_json::from_str(r#"{"x":2,"+Inf":3}"#).unwrap();
        assert!(odd.bounds().iter().any(|bound| bound.is_nan()));
        assert!(serde_json::from_str::<Buckets>(r#"{"1":"two"}"#).is_err());
    }

    #[test]
    fn keeps_a_thousand_bounds_and_says_that_there_were_more() {
        let mut many: Buckets = (0..BOUNDS_MAX).rev().map(|n| (n as f64, 1.0)).collect();
        assert!(many.counts().len() == BOUNDS_MAX && !many.bounds().iter().any(|bound| bound.is_nan()));
        (0..5000).for_each(|n| many.add(f64::from(n), 1.0));
        assert_eq!((many.counts().len(), many.get(f64::NAN)), (BOUNDS_MAX + 1, Some(4000.0)));
        assert_eq!(many.get(3.0), Some(2.0), "what is known goes on");
    }

    #[test]
    fn shares_the_bounds_of_another_one_only_if_they_are_the_same() {
        let one: Buckets = [(1.0, 2.0)].into_iter().collect();
        let mut same: Buckets = [(1.0, 3.0)].into_iter().collect();
        let mut other: Buckets = [(2.0, 3.0)].into_iter().collect();
        assert!(same.share(one.bounds()) && Arc::ptr_eq(same.bounds(), one.bounds()));
        assert!(!other.share(one.bounds()));
        same.add(4.0, 5.0);
        assert_eq!((one.bounds().len(), same.get(1.0)), (1, Some(3.0)), "what is shared is never changed");
    }
}

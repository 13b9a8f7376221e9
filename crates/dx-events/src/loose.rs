//! JSON reading that no surprising value can break: a field of the wrong type is an absent field.
//!
//! Agents' formats change between versions and tools put anything into their input, so the parsers name the fields
//! they want and skip the rest unread. Never builds a tree of the document.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A record that picks its fields out of a JSON object; whatever is not an object gives the default.
pub(crate) trait Fields: Default {
    /// Takes the value of `key` from `map`, in any case exactly one value.
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;
}

/// Reads a record from one line; `None` when it is not JSON at all or not an object.
pub(crate) fn record<T: Fields>(line: &[u8]) -> Option<T> {
    if line.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    serde_json::from_slice::<Loose<T>>(line).ok().map(|l| l.0)
}

/// The next value of `map` as a record.
pub(crate) fn nested<'de, T: Fields, A: MapAccess<'de>>(map: &mut A) -> Result<T, A::Error> {
    map.next_value::<Loose<T>>().map(|l| l.0)
}

/// The next value of `map` as records: at most [`LIST_MAX`] of an array.
pub(crate) fn list<'de, T: Fields, A: MapAccess<'de>>(map: &mut A) -> Result<Vec<T>, A::Error> {
    map.next_value::<List<T>>().map(|l| l.0)
}

/// The next value of `map` as a string.
pub(crate) fn text<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<String>, A::Error> {
    map.next_value::<Scalar>().map(|s| if let Scalar::Text(t) = s { Some(t) } else { None })
}

/// The next value of `map` as a string; a whole number is written out.
pub(crate) fn word<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<String>, A::Error> {
    map.next_value::<Scalar>().map(|s| match s {
        Scalar::Text(t) => Some(t),
        Scalar::Number(n) => Some(format!("{n:.0}")),
        Scalar::Flag(_) | Scalar::Other => None,
    })
}

/// The next value of `map` as a truth value.
pub(crate) fn flag<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<bool>, A::Error> {
    map.next_value::<Scalar>().map(|s| if let Scalar::Flag(f) = s { Some(f) } else { None })
}

/// The next value of `map` as a count; negative and absent ones are 0.
pub(crate) fn count<'de, A: MapAccess<'de>>(map: &mut A) -> Result<u64, A::Error> {
    Ok(number(map)?.unwrap_or(0.0) as u64)
}

/// The next value of `map` as a number, which may stand in a string.
pub(crate) fn number<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<f64>, A::Error> {
    map.next_value::<Scalar>().map(|s| match s {
        Scalar::Number(n) => Some(n),
        Scalar::Text(t) => t.trim().parse().ok().filter(|n: &f64| n.is_finite()),
        Scalar::Flag(_) | Scalar::Other => None,
    })
}

/// Skips the next value of `map`.
pub(crate) fn skip<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(drop)
}

/// Longest list that is read; the rest is skipped.
const LIST_MAX: usize = 64;

enum Scalar {
    Text(String),
    Number(f64),
    Flag(bool),
    Other,
}

struct Loose<T>(T);
struct List<T>(Vec<T>);

impl<'de, T: Fields> Deserialize<'de> for Loose<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor(PhantomData)).map(Loose)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

impl<'de, T: Fields> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListVisitor(PhantomData)).map(List)
    }
}

struct LooseVisitor<T>(PhantomData<T>);
struct ListVisitor<T>(PhantomData<T>);
struct ScalarVisitor;

/// The cases in which visitors read a value and make nothing of it.
macro_rules! ignored {
    ($value:expr, $($method:ident($type:ty)),*) => {
        $(fn $method<E>(self, _: $type) -> Result<Self::Value, E> { Ok($value) })*
        fn visit_unit<E>(self) -> Result<Self::Value, E> { Ok($value) }
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str("any JSON value") }
    };
}

fn skip_seq<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

fn skip_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<(), A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

impl<'de, T: Fields> Visitor<'de> for LooseVisitor<T> {
    type Value = T;

    ignored!(T::default(), visit_bool(bool), visit_u64(u64), visit_i64(i64), visit_f64(f64), visit_str(&str));

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<T, A::Error> {
        skip_seq(seq).map(|()| T::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut record = T::default();
        while let Some(key) = map.next_key::<String>()? {
            record.field(&key, &mut map)?;
        }
        Ok(record)
    }
}

impl<'de, T: Fields> Visitor<'de> for ListVisitor<T> {
    type Value = Vec<T>;

    ignored!(Vec::new(), visit_bool(bool), visit_u64(u64), visit_i64(i64), visit_f64(f64), visit_str(&str));

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while list.len() < LIST_MAX {
            let Some(Loose(item)) = seq.next_element::<Loose<T>>()? else { return Ok(list) };
            list.push(item);
        }
        skip_seq(seq).map(|()| list)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<T>, A::Error> {
        skip_map(map).map(|()| Vec::new())
    }
}

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    ignored!(Scalar::Other,);

    fn visit_bool<E>(self, flag: bool) -> Result<Scalar, E> {
        Ok(Scalar::Flag(flag))
    }

    fn visit_u64<E>(self, n: u64) -> Result<Scalar, E> {
        Ok(Scalar::Number(n as f64))
    }

    fn visit_i64<E>(self, n: i64) -> Result<Scalar, E> {
        Ok(Scalar::Number(n as f64))
    }

    fn visit_f64<E>(self, n: f64) -> Result<Scalar, E> {
        Ok(Scalar::Number(n))
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Scalar, A::Error> {
        skip_seq(seq).map(|()| Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Scalar, A::Error> {
        skip_map(map).map(|()| Scalar::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, Debug, PartialEq)]
    struct Probe {
        name: Option<String>,
        size: Option<f64>,
        inner: Option<Box<Probe>>,
    }

    impl Fields for Probe {
        fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
            match key {
                "name" => self.name = text(map)?,
                "size" => self.size = number(map)?,
                "inner" => self.inner = Some(Box::new(nested(map)?)),
                _ => skip(map)?,
            }
            Ok(())
        }
    }

    #[test]
    fn wrong_types_are_absent_fields() {
        let line = br#"{"x":[1,{"a":null}],"name":{"a":[]},"size":"12","inner":{"name":"n","inner":[1,"2"]},"size2":true}"#;
        let probe: Probe = record(line).unwrap();
        let inner = probe.inner.unwrap();
        assert_eq!((probe.name, probe.size), (None, Some(12.0)));
        assert_eq!((inner.name.as_deref(), inner.inner), (Some("n"), Some(Box::default())));
        assert_eq!(record::<Probe>(b"[1]"), None);
        assert_eq!(record::<Probe>(b"{\"a\""), None);
    }
}

//! Position scaling in `config.json`: `rope_theta` and `rope_scaling`, as all versions of transformers read them, or
//! `rope_parameters`, as 5.x writes them.

use super::read::{Keys, MOST_WARNINGS, shortened};
use crate::config::rope::{RopeScaling, RopeType};
use crate::error::Result;
use crate::input::quoted;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Base where no key says one.
const DEFAULT_THETA: f64 = 10_000.0;

/// The base of the rotation frequencies and what scales them. `own` says that the file is of this program's own type,
/// which alone knows `yarn_variant`; `limit` is the model's longest sequence.
pub(super) fn read_rope(keys: &mut Keys, own: bool, limit: usize) -> Result<(f64, RopeScaling)> {
    let theta = keys.optional::<f64>("rope_theta", "a number")?.unwrap_or(DEFAULT_THETA);
    // Transformers prefers the older key where both stand.
    let mut found: Option<(f64, RopeScaling)> = None;
    for key in ["rope_scaling", "rope_parameters"] {
        let rope = keys.optional::<Map<String, Value>>(key, "an object or null")?;
        let Some(rope) = rope.filter(|rope| !rope.is_empty()) else { continue };
        let (own_theta, scaling) = read_object(keys, key, rope, own, limit)?;
        let read = (own_theta.unwrap_or(theta), scaling);
        if found.as_ref().is_some_and(|found| *found != read) {
            let reason = "\"rope_scaling\" and \"rope_parameters\" say different things; leave one of them out";
            return Err(keys.error(reason.to_owned()));
        }
        found = Some(read);
    }
    Ok(found.unwrap_or((theta, RopeScaling::default())))
}

/// One of the two objects, called `key`.
fn read_object(
    keys: &mut Keys,
    key: &str,
    mut rope: Map<String, Value>,
    own: bool,
    limit: usize,
) -> Result<(Option<f64>, RopeScaling)> {
    let kind = read_type(keys, key, &mut rope)?;
    let theta = take(keys, &mut rope, "rope_theta", "a number")?;
    if let Some(partial) = rope.remove("partial_rotary_factor").filter(|x| x.as_f64() != Some(1.0)) {
        let reason = format!("\"partial_rotary_factor\" is {}; only 1 is supported", shortened(&partial));
        return Err(keys.error(reason));
    }
    let mut scaling = RopeScaling { kind, ..RopeScaling::default() };
    if kind != RopeType::Default {
        scaling.factor = take(keys, &mut rope, "factor", "a number")?;
        // Transformers looks at this one for every type; validation refuses it for those where it makes no sense.
        scaling.mscale_all_dim = take(keys, &mut rope, "mscale_all_dim", "a number")?;
    }
    if kind == RopeType::Yarn {
        scaling.original_max_position_embeddings =
            take(keys, &mut rope, "original_max_position_embeddings", "a whole number")?;
        scaling.beta_fast = take(keys, &mut rope, "beta_fast", "a number")?;
        scaling.beta_slow = take(keys, &mut rope, "beta_slow", "a number")?;
        scaling.mscale = take(keys, &mut rope, "mscale", "a number")?;
        scaling.attention_factor = take(keys, &mut rope, "attention_factor", "a number")?;
        scaling.truncate = take(keys, &mut rope, "truncate", "true or false")?;
        if own {
            scaling.yarn_variant = take(keys, &mut rope, "yarn_variant", "\"hf\" or \"seed_literal\"")?;
        }
        if scaling.original_max_position_embeddings.is_none() {
            let missing = format!("{key:?}: \"original_max_position_embeddings\" is missing");
            keys.warnings.push(format!("{missing}; max_position_embeddings = {limit} is taken, as transformers does"));
            scaling.original_max_position_embeddings = Some(limit);
        }
    }
    let unknown =
        rope.keys().take(MOST_WARNINGS).map(|k| format!("{key:?}: {} is not understood and has no effect", quoted(k)));
    keys.warnings.extend(unknown);
    Ok((theta, scaling))
}

/// The newer spelling `rope_type` wins over `type`, as in transformers.
fn read_type(keys: &Keys, key: &str, rope: &mut Map<String, Value>) -> Result<RopeType> {
    let (older, newer) = (rope.remove("type"), rope.remove("rope_type"));
    let Some(kind) = newer.or(older).filter(|kind| !kind.is_null()) else { return Ok(RopeType::Default) };
    serde_json::from_value(kind.clone()).map_err(|_| {
        let reason = format!("{key:?} asks for position scaling {}", shortened(&kind));
        keys.error(format!("{reason}; \"default\", \"linear\", \"ntk\", \"dynamic\" and \"yarn\" are supported"))
    })
}

/// Takes a key of the object; JSON null counts as absent.
fn take<T: DeserializeOwned>(keys: &Keys, rope: &mut Map<String, Value>, key: &str, kind: &str) -> Result<Option<T>> {
    match rope.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match T::deserialize(&value) {
            Ok(read) => Ok(Some(read)),
            Err(_) => Err(keys.error(format!("{key:?} must be {kind}, not {}", shortened(&value)))),
        },
    }
}

/// The value of `rope_scaling`: null for plain rotation.
pub(super) fn written(scaling: &RopeScaling) -> Value {
    if scaling.kind == RopeType::Default {
        return Value::Null;
    }
    let mut keys = serde_json::to_value(scaling).unwrap_or_default();
    if let Value::Object(keys) = &mut keys {
        keys.retain(|key, value| !value.is_null() && (key != "yarn_variant" || scaling.is_seed_literal()));
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::super::read_config;
    use super::super::{StoredType, check_representable, write_config, write_own_config};
    use crate::config::model::ModelConfig;
    use crate::config::rope::{RopeScaling, RopeType, YarnVariant};
    use crate::error::Result;
    use serde_json::{Value, json};

    /// What is read from a written configuration with `changes` on top, and the warnings.
    fn read(changes: Value) -> Result<(f64, RopeScaling, Vec<String>)> {
        let dir = tempfile::tempdir().unwrap();
        write_config(dir.path(), &ModelConfig::default(), StoredType::F32).unwrap();
        let path = dir.path().join("config.json");
        let mut keys: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let (Value::Object(map), Value::Object(changes)) = (&mut keys, changes) else { panic!("objects") };
        map.extend(changes);
        std::fs::write(&path, keys.to_string()).unwrap();
        read_config(dir.path()).map(|(c, warnings)| (c.rope_theta, c.rope_scaling, warnings))
    }

    fn refusal(changes: Value) -> String {
        let error = read(changes).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    }

    fn yarn() -> RopeScaling {
        RopeScaling {
            kind: RopeType::Yarn,
            factor: Some(40.0),
            original_max_position_embeddings: Some(4096),
            beta_fast: Some(32.0),
            beta_slow: Some(1.0),
            mscale: Some(0.707),
            mscale_all_dim: Some(0.707),
            ..RopeScaling::default()
        }
    }

    #[test]
    fn both_spellings_say_the_same() {
        let keys = json!({"factor": 40, "original_max_position_embeddings": 4096, "beta_fast": 32, "beta_slow": 1,
            "mscale": 0.707, "mscale_all_dim": 0.707});
        let with = |more: Value| {
            let (mut all, Value::Object(more)) = (keys.as_object().unwrap().clone(), more) else { panic!("object") };
            all.extend(more);
            Value::Object(all)
        };
        let old = json!({"rope_theta": 5000, "rope_scaling": with(json!({"type": "yarn"}))});
        let new = json!({"rope_theta": null, "rope_scaling": null,
            "rope_parameters": with(json!({"rope_type": "yarn", "type": "yarn", "rope_theta": 5000.0}))});
        let both = json!({"rope_theta": 5000, "rope_scaling": with(json!({"type": "yarn"})),
            "rope_parameters": with(json!({"rope_type": "yarn", "rope_theta": 5000.0}))});
        for changes in [old, new, both] {
            assert_eq!(read(changes).unwrap(), (5000.0, yarn(), vec![]));
        }
        let contrary = json!({"rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": {"factor": 4,
            "rope_type": "linear"}});
        assert!(refusal(contrary).contains("say different things"));
    }

    #[test]
    fn every_type_is_written_and_read_back() {
        let of = |kind, factor| RopeScaling { kind, factor: Some(factor), ..RopeScaling::default() };
        let literal = RopeScaling {
            yarn_variant: Some(YarnVariant::SeedLiteral),
            original_max_position_embeddings: Some(128),
            ..of(RopeType::Yarn, 4.0)
        };
        let odd = RopeScaling { attention_factor: Some(1.25), truncate: Some(false), ..yarn() };
        for (rope_scaling, blamed) in [
            (RopeScaling::default(), ""),
            (of(RopeType::Linear, 2.5), ""),
            (of(RopeType::Dynamic, 2.0), ""),
            (yarn(), ""),
            (odd, ""),
            (of(RopeType::Ntk, 4.0), "model.rope_scaling.type: is \"ntk\""),
            (literal, "model.rope_scaling.yarn_variant: is \"seed_literal\""),
        ] {
            // Dense throughout, so that nothing else stands in the way.
            let c = ModelConfig { rope_scaling, first_k_dense_replace: 3, ..ModelConfig::default() };
            let dir = tempfile::tempdir().unwrap();
            write_own_config(dir.path(), &c, StoredType::F32).unwrap();
            assert_eq!(read_config(dir.path()).unwrap(), (c.clone(), vec![]));
            match check_representable(&c) {
                Ok(()) => assert_eq!(blamed, ""),
                Err(e) => assert!(!blamed.is_empty() && e.to_string().starts_with(blamed), "{e}"),
            }
        }
    }

    #[test]
    fn what_transformers_fills_in_or_ignores_is_told() {
        let (_, scaling, warnings) = read(json!({"rope_scaling": {"type": "yarn", "factor": 4}})).unwrap();
        assert_eq!(scaling.original_max_position_embeddings, Some(ModelConfig::default().max_position_embeddings));
        assert!(warnings.len() == 1 && warnings[0].contains("original_max_position_embeddings"), "{warnings:?}");
        let linear = json!({"rope_scaling": {"type": "linear", "factor": 4, "beta_fast": 32, "yarn_variant": "hf"}});
        let (_, scaling, warnings) = read(linear).unwrap();
        assert_eq!((scaling.kind, scaling.factor, warnings.len()), (RopeType::Linear, Some(4.0), 2));
        assert_eq!(read(json!({"rope_scaling": {}})).unwrap().1, RopeScaling::default());
    }

    #[test]
    fn what_cannot_be_computed_is_refused_in_words() {
        let scaling = |keys: Value| refusal(json!({"rope_scaling": keys}));
        for (message, word) in [
            (scaling(json!({"type": "llama3", "factor": 8})), "\"llama3\"; \"default\""),
            (scaling(json!({"type": 3})), "position scaling 3"),
            (scaling(json!({"type": "yarn"})), "model.rope_scaling.factor: is missing"),
            (scaling(json!({"type": "linear"})), "model.rope_scaling.factor: is missing"),
            (scaling(json!({"type": "yarn", "factor": "4"})), "\"factor\" must be a number"),
            (scaling(json!({"type": "yarn", "factor": 0.5})), "model.rope_scaling.factor: is 0.5"),
            (scaling(json!({"type": "linear", "factor": 2, "mscale_all_dim": 1})), "mscale_all_dim: has no meaning"),
            (scaling(json!({"type": "default", "partial_rotary_factor": 0.5})), "partial_rotary_factor"),
            (refusal(json!({"rope_scaling": "yarn"})), "must be an object or null"),
            (refusal(json!({"rope_parameters": {"rope_type": "longrope", "factor": 2}})), "longrope"),
        ] {
            assert!(message.contains(word), "{message}");
        }
    }
}

//! The optimizer's moments on the host and in `optimizer.safetensors`: fused as in memory, under `m.NAME` and `v.NAME`.
//! Of 8-bit moments those are the codes, and `m.NAME.absmax` and `v.NAME.absmax` hold the factors of their blocks.

use super::session::Session;
use crate::checkpoint::container::{Announced, Container, write_container};
use crate::checkpoint::draft::Target;
use crate::checkpoint::tensors::{reals, write_reals};
use crate::checkpoint::weights::listed;
use crate::error::{Error, Result};
use safetensors::Dtype;
use std::path::Path;

/// Both moments of a parameter, m and v.
#[derive(Clone, Debug, PartialEq)]
pub enum MomentValues {
    /// In 32 bits.
    Whole([Vec<f32>; 2]),
    /// In 8 bits.
    Coded {
        /// A code an element.
        codes: [Vec<u8>; 2],
        /// A factor a block.
        absmax: [Vec<f32>; 2],
    },
}

impl MomentValues {
    /// Codes and factors of `n` elements as they alternate on the device: four codes of m, four of v, in words.
    pub(super) fn of_words(words: &[u32], factors: &[f32], n: usize) -> Self {
        let codes = |of: usize| {
            let mut codes: Vec<u8> = words.as_chunks::<2>().0.iter().flat_map(|pair| pair[of].to_le_bytes()).collect();
            codes.truncate(n);
            codes
        };
        let absmax = |of: usize| factors.as_chunks::<2>().0.iter().map(|pair| pair[of]).collect();
        MomentValues::Coded { codes: [codes(0), codes(1)], absmax: [absmax(0), absmax(1)] }
    }

    /// The reverse; nothing for moments of 32 bits. No moment depends on what fills the last words.
    pub(super) fn words(&self) -> (Vec<u32>, Vec<f32>) {
        let MomentValues::Coded { codes: [m, v], absmax } = self else { return (Vec::new(), Vec::new()) };
        let word = |four: &[u8]| (0..).zip(four).fold(0, |word, (e, &code)| word | u32::from(code) << (8 * e));
        let words = m.chunks(4).zip(v.chunks(4)).flat_map(|(m, v)| [word(m), word(v)]).collect();
        (words, absmax[0].iter().zip(&absmax[1]).flat_map(|(&m, &v)| [m, v]).collect())
    }
}

/// Names, types and shapes of the moments of parameter number `i`: in the order m, v, each with its factors if coded.
fn announced(session: &Session, i: usize) -> Vec<Announced> {
    let spec = &session.program.weights.all[i].spec;
    let factors = session.factors(i);
    let mut all = Vec::new();
    for name in ["m", "v"].map(|kind| format!("{kind}.{}", spec.name)) {
        let dtype = if factors.is_some() { Dtype::U8 } else { Dtype::F32 };
        all.push(Announced { name: name.clone(), dtype, shape: spec.shape.clone() });
        let absmax = |blocks| Announced { name: format!("{name}.absmax"), dtype: Dtype::F32, shape: vec![blocks] };
        all.extend(factors.map(absmax));
    }
    all
}

/// Numbers of the parameters that have moments.
pub(super) fn trained(session: &Session) -> Vec<usize> {
    let all = session.program.weights.all.iter().enumerate();
    all.filter(|(_, parameter)| parameter.spec.trained).map(|(i, _)| i).collect()
}

/// What [`save`] is to write: the tensors of each parameter that has moments.
pub(super) fn layout(session: &Session) -> Vec<Vec<Announced>> {
    trained(session).into_iter().map(|i| announced(session, i)).collect()
}

/// Writes the moments of all parameters that `layout` names; `take` gives them, one parameter at a time.
pub(super) fn save(
    target: impl Target,
    layout: &[Vec<Announced>],
    mut take: impl FnMut() -> Result<MomentValues>,
) -> Result<()> {
    let path = target.path();
    let pieces: Vec<usize> = layout.iter().flat_map(|tensors| 0..tensors.len()).collect();
    let mut values = MomentValues::Whole(Default::default());
    write_container(target, &layout.concat(), |at, out| {
        let piece = pieces[at];
        if piece == 0 {
            values = take()?;
        }
        let written = match &values {
            MomentValues::Whole(both) => write_reals(out, Dtype::F32, &both[piece]),
            MomentValues::Coded { codes, .. } if piece.is_multiple_of(2) => out.write_all(&codes[piece / 2]),
            MomentValues::Coded { absmax, .. } => write_reals(out, Dtype::F32, &absmax[piece / 2]),
        };
        written.map_err(|e| Error::io(&path, e))
    })
}

/// Reads what [`save`] wrote for a program of the same parameters and optimizer.
///
/// Errors: the file holds other tensors, or moments or factors that none can have been.
pub(super) fn load(path: &Path, session: &mut Session) -> Result<()> {
    let file = Container::open(path)?;
    let trained = trained(session);
    let all = layout(session);
    check(&file, &all.concat())?;
    for (&i, tensors) in trained.iter().zip(&all) {
        let bytes = |at: usize| file.entries().get(&tensors[at].name).map_or(&[][..], |entry| file.bytes(entry));
        let floats = |at: usize| reals(Dtype::F32, bytes(at), |x| x as f32).unwrap_or_default();
        let values = match tensors.len() {
            2 => MomentValues::Whole([floats(0), floats(1)]),
            _ => MomentValues::Coded { codes: [bytes(0).to_vec(), bytes(2).to_vec()], absmax: [floats(1), floats(3)] },
        };
        // A NaN is in no range.
        let (numbers, range, which) = match &values {
            MomentValues::Whole(both) => (both, f32::MIN..=f32::MAX, "a moment of NAME is not finite"),
            MomentValues::Coded { absmax, .. } => {
                (absmax, 0.0..=f32::MAX, "a largest moment of NAME is negative or not finite")
            }
        };
        if !numbers.iter().flatten().all(|x| range.contains(x)) {
            return Err(Error::file(path, which.replace("NAME", &session.program.weights.all[i].spec.name)));
        }
        session.load_moments(i, &values)?;
    }
    Ok(())
}

/// Refuses a file that holds anything but `tensors`.
fn check(file: &Container, tensors: &[Announced]) -> Result<()> {
    let differs = |t: &&Announced| file.entries().get(&t.name).is_none_or(|e| e.dtype != t.dtype || e.shape != t.shape);
    let wrong: Vec<String> =
        tensors.iter().filter(differs).map(|t| format!("{} {} {:?}", t.name, t.dtype, t.shape)).collect();
    if wrong.is_empty() && file.entries().len() == tensors.len() {
        return Ok(());
    }
    let lacks = match wrong.len() {
        0 => "tensors that are not part of it".to_owned(),
        n => format!("another optimizer's or model's state: {n} tensors are missing or different: {}", listed(&wrong)),
    };
    let hint = "set optimizer.kind, optimizer.block_size and the model to what it was written with";
    Err(Error::file(file.path(), format!("holds {lacks}; {hint}")))
}

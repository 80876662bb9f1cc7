//! What a shader's text says of itself, read by naga, and what the Rust side states, as comparable values.

use hadal::kernels::{Access, Bind, Element, Halves, Kernel};
use naga::proc::Layouter;
use naga::{AddressSpace, ScalarKind, StorageAccess, TypeInner};

/// The interface of a shader with one entry point.
#[derive(Clone, Debug, PartialEq)]
pub struct Interface {
    pub entry_points: Vec<String>,
    /// Name, whether it is written, and element of each storage buffer, by binding number.
    pub buffers: Vec<(String, bool, &'static str)>,
    /// Name, type and offset of each immediate.
    pub immediates: Vec<(String, &'static str, u32)>,
    /// Bytes of all immediates.
    pub immediate_bytes: u32,
    pub workgroup: [u32; 3],
    /// Bytes of workgroup memory.
    pub shared_bytes: u32,
}

/// Reads the interface of plain WGSL.
pub fn reflect(text: &str) -> Result<Interface, String> {
    let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
    let mut layouter = Layouter::default();
    layouter.update(module.to_ctx()).map_err(|e| e.to_string())?;
    let workgroup = module.entry_points.first().map_or([0; 3], |entry| entry.workgroup_size);
    let entry_points = module.entry_points.iter().map(|entry| entry.name.clone()).collect();
    let mut found = Interface {
        entry_points,
        buffers: Vec::new(),
        immediates: Vec::new(),
        immediate_bytes: 0,
        workgroup,
        shared_bytes: 0,
    };
    let mut buffers = Vec::new();
    for (_, variable) in module.global_variables.iter() {
        let inner = &module.types[variable.ty].inner;
        match (variable.space, inner) {
            (AddressSpace::Storage { access }, TypeInner::Array { base, .. }) => {
                let binding = variable.binding.ok_or("a buffer without binding")?;
                let name = variable.name.clone().unwrap_or_default();
                let written = access.contains(StorageAccess::STORE);
                let element = element(&module, &module.types[*base].inner)?;
                buffers.push(((binding.group, binding.binding), (name, written, element)));
            }
            (AddressSpace::Immediate, TypeInner::Struct { members, span }) => {
                for member in members {
                    let kind = scalar(&module.types[member.ty].inner)?;
                    found.immediates.push((member.name.clone().unwrap_or_default(), kind, member.offset));
                }
                found.immediate_bytes += span;
            }
            (AddressSpace::WorkGroup, _) => found.shared_bytes += layouter[variable.ty].size,
            (AddressSpace::Private, _) => {}
            (space, _) => return Err(format!("a variable in {space:?}")),
        }
    }
    buffers.sort();
    for (i, ((group, binding), buffer)) in buffers.into_iter().enumerate() {
        if (group, binding) != (0, i as u32) {
            return Err(format!("{} stands at group {group}, binding {binding}", buffer.0));
        }
        found.buffers.push(buffer);
    }
    Ok(found)
}

/// The scalar that a buffer's elements consist of: structs of vectors of one are read and written as a whole.
fn element(module: &naga::Module, inner: &TypeInner) -> Result<&'static str, String> {
    let TypeInner::Struct { members, .. } = inner else { return scalar(inner) };
    let parts: Result<Vec<_>, _> = members.iter().map(|member| scalar(&module.types[member.ty].inner)).collect();
    match parts?.as_slice() {
        [first, rest @ ..] if rest.iter().all(|part| part == first) => Ok(first),
        parts => Err(format!("elements hold {parts:?}")),
    }
}

fn scalar(inner: &TypeInner) -> Result<&'static str, String> {
    match inner {
        TypeInner::Scalar(scalar) | TypeInner::Vector { scalar, .. } => match (scalar.kind, scalar.width) {
            (ScalarKind::Float, 2) => Ok("f16"),
            (ScalarKind::Float, 4) => Ok("f32"),
            (ScalarKind::Uint, 4) => Ok("u32"),
            other => Err(format!("elements are {other:?}")),
        },
        other => Err(format!("elements are {other:?}")),
    }
}

/// The buffers that `kernel` states where `halves` are stored as f16, as [`Interface::buffers`] has them.
pub fn stated_buffers(kernel: &Kernel, halves: Halves) -> Vec<(String, bool, &'static str)> {
    let element = |i: usize, bind: &Bind| match bind.element {
        Element::F32 if halves.has(i) => "f16",
        Element::F32 => "f32",
        Element::U32 => "u32",
    };
    let buffer = |(i, b): (usize, &Bind)| (b.name.to_owned(), b.access != Access::Read, element(i, b));
    kernel.binds.iter().enumerate().map(buffer).collect()
}

/// The fields of `pub struct Params` in the source of a kernel, as [`Interface::immediates`] has them; `None` where the
/// source defines no such struct.
pub fn stated_params(source: &str) -> Option<Vec<(String, &'static str, u32)>> {
    let body = source.split("#[repr(C)]").nth(1)?.split("pub struct Params {").nth(1)?.split("\n}").next()?;
    let fields =
        body.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.trim_end_matches(',').split_once(": "));
    let kind = |text: &str| match text {
        "u32" => "u32",
        "f32" => "f32",
        other => panic!("a field of type {other}"),
    };
    Some(fields.enumerate().map(|(i, (name, of))| (name.to_owned(), kind(of), 4 * i as u32)).collect())
}

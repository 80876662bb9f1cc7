//! Bindings of a kernel: names, access, element types, which may be stored as f16, and what references get for them.

/// How a shader uses one of its bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read only.
    Read,
    /// Every element that the kernel owns is overwritten and none is read.
    Write,
    /// Old values matter: the kernel accumulates or updates in place.
    Update,
}

/// Element type of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// 32-bit float, or f16 where the binding allows it; vectors of it count as their scalars.
    F32,
    /// 32-bit unsigned integer.
    U32,
}

/// One storage buffer of a kernel, in binding order.
#[derive(Clone, Copy, Debug)]
pub struct Bind {
    /// Name of the variable in the shader.
    pub name: &'static str,
    /// How the shader uses it.
    pub access: Access,
    /// What its elements are.
    pub element: Element,
    /// Where the floats may also be stored as f16: the constant that tells the shader so, `HALF_` and the name.
    pub half: Option<&'static str>,
}

impl Bind {
    /// The same binding, which may also be stored as f16; `constant` is 1 in the shader where it is.
    pub const fn or_half(self, constant: &'static str) -> Bind {
        Bind { half: Some(constant), ..self }
    }

    const fn new(name: &'static str, access: Access, element: Element) -> Bind {
        Bind { name, access, element, half: None }
    }
}

/// Which bindings of a dispatch are stored as f16: one bit each, in binding order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Halves(u8);

impl Halves {
    /// None of them.
    pub const NONE: Halves = Halves(0);

    /// The first `n` bindings.
    pub const fn first(n: u32) -> Halves {
        Halves((1 << n) - 1)
    }

    /// Binding number `i` alone.
    pub const fn only(i: u32) -> Halves {
        Halves(1 << i)
    }

    /// The set of the bindings for which `stored` is true.
    pub fn of(stored: impl IntoIterator<Item = bool>) -> Halves {
        Halves(stored.into_iter().enumerate().fold(0, |bits, (i, half)| bits | u8::from(half) << i))
    }

    /// Every binding of `binds` that may be stored as f16.
    pub fn all(binds: &[Bind]) -> Halves {
        Halves::of(binds.iter().map(|bind| bind.half.is_some()))
    }

    /// Whether binding number `i` is stored as f16.
    pub fn has(self, i: usize) -> bool {
        self.0 >> i & 1 != 0
    }

    /// One bit a binding, the first in the lowest.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Whether any is.
    pub fn any(self) -> bool {
        self.0 != 0
    }

    /// The constants that tell a shader.
    pub fn constants(self, binds: &'static [Bind]) -> impl Iterator<Item = (&'static str, i64)> {
        binds.iter().enumerate().filter_map(move |(i, bind)| Some((bind.half?, i64::from(self.has(i)))))
    }
}

/// A read-only buffer of f32.
pub const fn read(name: &'static str) -> Bind {
    Bind::new(name, Access::Read, Element::F32)
}
/// An overwritten buffer of f32.
pub const fn write(name: &'static str) -> Bind {
    Bind::new(name, Access::Write, Element::F32)
}
/// A buffer of f32 that is updated in place.
pub const fn update(name: &'static str) -> Bind {
    Bind::new(name, Access::Update, Element::F32)
}
/// A read-only buffer of u32.
pub const fn read_u32(name: &'static str) -> Bind {
    Bind::new(name, Access::Read, Element::U32)
}
/// An overwritten buffer of u32.
pub const fn write_u32(name: &'static str) -> Bind {
    Bind::new(name, Access::Write, Element::U32)
}

/// A buffer of u32 that is updated in place.
pub const fn update_u32(name: &'static str) -> Bind {
    Bind::new(name, Access::Update, Element::U32)
}

/// A binding as the reference sees it.
pub enum Arg<'a, F> {
    /// Read-only floats.
    Real(&'a [F]),
    /// Floats to write or update.
    RealMut(&'a mut [F]),
    /// Read-only integers.
    Index(&'a [u32]),
    /// Integers to write.
    IndexMut(&'a mut [u32]),
}

impl<'a, F> Arg<'a, F> {
    /// The floats of a read binding.
    pub fn real(self) -> &'a [F] {
        match self {
            Arg::Real(x) => x,
            _ => panic!("binding is not read-only f32"),
        }
    }
    /// The floats of a write or update binding.
    pub fn real_mut(self) -> &'a mut [F] {
        match self {
            Arg::RealMut(x) => x,
            _ => panic!("binding is not writable f32"),
        }
    }
    /// The integers of a read binding.
    pub fn index(self) -> &'a [u32] {
        match self {
            Arg::Index(x) => x,
            _ => panic!("binding is not read-only u32"),
        }
    }
    /// The integers of a write binding.
    pub fn index_mut(self) -> &'a mut [u32] {
        match self {
            Arg::IndexMut(x) => x,
            _ => panic!("binding is not writable u32"),
        }
    }
}

/// The bindings of one dispatch, in order.
pub struct Args<'a, F>(pub Vec<Arg<'a, F>>);

impl<'a, F> Args<'a, F> {
    /// All bindings at once; panics if the kernel has another number of them.
    pub fn all<const N: usize>(self) -> [Arg<'a, F>; N] {
        self.0.try_into().unwrap_or_else(|args: Vec<_>| panic!("{} bindings where {N} were expected", args.len()))
    }
}

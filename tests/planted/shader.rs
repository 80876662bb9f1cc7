//! Bugs planted in shaders, as patches of their text, and what the kernel comparison says to them.

use hadal::check::ops::judge;
use hadal::gpu::device::Gpu;
use hadal::gpu::pipeline::{Allowed, Pipelines};
use hadal::kernels::case::Case;
use hadal::kernels::{Kernel, find};

/// Files that the bugs touch besides the kernels' own.
const SHARED: &[(&str, &str)] = &[
    ("attention", include_str!("../../shaders/shared/attention.wgsl")),
    ("product", include_str!("../../shaders/shared/product.wgsl")),
    ("random", include_str!("../../shaders/shared/random.wgsl")),
];

/// One planted bug: in the text of a kernel, or of a file that it imports, `old` becomes `new`.
#[derive(Clone, Copy)]
pub struct ShaderBug {
    pub what: &'static str,
    pub stem: &'static str,
    shared: Option<&'static str>,
    old: &'static str,
    new: &'static str,
    times: usize,
    first: &'static str,
}

impl ShaderBug {
    /// A bug in the kernel's own text, where `old` occurs once.
    pub const fn new(what: &'static str, stem: &'static str, old: &'static str, new: &'static str) -> ShaderBug {
        ShaderBug { what, stem, shared: None, old, new, times: 1, first: "" }
    }

    /// The same in a shared file that the kernel imports.
    pub const fn shared(self, file: &'static str) -> ShaderBug {
        ShaderBug { shared: Some(file), ..self }
    }

    /// The same where the text occurs this often.
    pub const fn times(self, times: usize) -> ShaderBug {
        ShaderBug { times, ..self }
    }

    /// The same, with the case that is known to show it tried first: pipelines take their time to compile.
    pub const fn seen_by(self, case: &'static str) -> ShaderBug {
        ShaderBug { first: case, ..self }
    }

    fn kernel(&self) -> &'static Kernel {
        find(self.stem).unwrap_or_else(|| panic!("{}: no kernel {}", self.what, self.stem))
    }

    /// The kernel with `old` replaced by `new`; a shared file stands in place of its import.
    fn patched(&self, new: &str) -> Kernel {
        let kernel = self.kernel();
        let replace = |text: &str| {
            let found = text.matches(self.old).count();
            assert_eq!(found, self.times, "{}: occurrences of {:?}", self.what, self.old);
            text.replace(self.old, new)
        };
        let text = match self.shared {
            None => replace(kernel.shader),
            Some(file) => {
                let text = SHARED.iter().find(|(name, _)| *name == file).expect("a shared file").1;
                let import = format!("#import shared/{file}\n");
                assert_eq!(kernel.shader.matches(&import).count(), 1, "{}: imports of {file}", self.what);
                kernel.shader.replace(&import, &replace(text))
            }
        };
        Kernel { shader: text.leak(), ..*kernel }
    }

    /// The kernel with the bug.
    pub fn planted(&self) -> Kernel {
        self.patched(self.new)
    }

    /// The kernel's cases, in the order in which they are tried.
    fn cases(&self) -> Vec<Case> {
        let mut cases = self.kernel().every_case();
        let known = self.first.is_empty() || cases.iter().any(|case| case.name == self.first);
        assert!(known, "{}: no case {:?}", self.what, self.first);
        cases.sort_by_key(|case| case.name != self.first); // stable
        cases
    }

    /// Runs the kernel's cases until one shows the bug, and on that one also the kernel without it, which must pass.
    /// Returns what was reported. `compiled` holds kernels without bugs.
    pub fn plant(&self, gpu: &Gpu, compiled: &mut Pipelines) -> Result<String, String> {
        let (kernel, sound) = (self.planted(), self.patched(self.old));
        let outcome = |kernel: &Kernel, pipelines: &mut Pipelines, case: &Case| {
            let finding = judge(gpu, pipelines, &Allowed::portable(), kernel, case);
            finding.unwrap_or_else(|e| panic!("{}: the patched text does not run: {e}", self.what)).outcome
        };
        let mut pipelines = Pipelines::default();
        for case in self.cases() {
            if let Err(report) = outcome(&kernel, &mut pipelines, &case) {
                return match outcome(&sound, compiled, &case) {
                    Ok(_) => Ok(report),
                    Err(e) => Err(format!("also reported without the bug: {e}")),
                };
            }
        }
        Err(format!("none of {} cases showed it", kernel.every_case().len()))
    }
}

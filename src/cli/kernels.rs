//! `hadal kernels`

use crate::error::{Error, Result};
use crate::gpu::preprocess::preprocess;
use crate::kernels::{find, table};
use crate::terminal::print;
use clap::Args;

#[derive(Args, Debug)]
pub(super) struct KernelsArgs {
    /// Print this kernel's shader after the preprocessor, as its first test case specialises it
    #[arg(long, value_name = "STEM")]
    show: Option<String>,
    /// With --show: a faster variant, such as coop16
    #[arg(long, value_name = "SUFFIX", requires = "show")]
    variant: Option<String>,
}

pub(super) fn run(args: KernelsArgs) -> Result<()> {
    let Some(stem) = args.show else {
        return print(table());
    };
    let unknown = || Error::Usage(format!("--show {stem}: there is no such kernel; hadal kernels lists them"));
    let kernel = find(&stem).ok_or_else(unknown)?;
    let cases = kernel.every_case();
    let (shader, constants) = match &args.variant {
        None => (kernel.shader, cases.first().map(|case| kernel.portable_constants(&case.params, case.halves))),
        Some(suffix) => {
            let variants = (kernel.variants)();
            let variant = variants.iter().find(|v| v.suffix == suffix);
            let variant =
                variant.ok_or_else(|| Error::Usage(format!("--variant {suffix}: {stem} has no such variant")))?;
            let case = cases.iter().find(|case| (variant.fits)(&case.params, case.halves));
            (variant.shader, case.map(|case| variant.constants_of(kernel, &case.params, case.halves)))
        }
    };
    let text = preprocess(shader, &constants.unwrap_or_default()).map_err(|e| Error::Usage(format!("{stem}: {e}")))?;
    print(text)
}

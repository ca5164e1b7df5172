//! Flags that are given and that nothing would use.

use headstart::Error;
use headstart::config::TrainConfig;

use crate::failure::Failure;

/// Fails for a flag of gradient steps, of which `flags` says whether it is given, where there are none: L-BFGS fits the head,
/// and nothing is fine-tuned.
pub fn check(config: &TrainConfig, flags: &[(&str, bool)]) -> Result<(), Failure> {
    let given = flags.iter().find(|(_, given)| *given).filter(|_| config.only_fits_the_head());
    given.map_or(Ok(()), |(flag, _)| {
        let expected = "epochs of gradient steps, which use it";
        let found = "a head that L-BFGS fits, and no fine-tuning";
        let hint =
            "leave it out, train with --head-solver gradient, or fine-tune with --fine-tune-at";
        Err(Failure::Usage(Error::invalid(*flag, expected, found, hint)))
    })
}

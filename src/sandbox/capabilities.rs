//! Emptying all five capability sets.

use std::io;

use caps::CapSet;

use crate::sys;

/// Clears bounding, ambient, inheritable, effective and permitted, in the order in which each is still allowed.
///
/// # Errors
/// prctl(2)'s or capset(2)'s. See capabilities(7).
pub fn drop_all() -> io::Result<()> {
    // Dropping from the bounding set needs CAP_SETPCAP, so it goes before the permitted set.
    sys::process::empty_bounding_set()?;
    clear_others().map_err(io::Error::other)
}

fn clear_others() -> Result<(), caps::errors::CapsError> {
    caps::clear(None, CapSet::Ambient)?;
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set)?;
    }
    Ok(())
}

/// Puts every permitted capability into effect again, after a change of uid took them out.
///
/// # Errors
/// capset(2)'s.
pub fn raise_permitted() -> Result<(), caps::errors::CapsError> {
    let permitted = caps::read(None, CapSet::Permitted)?;
    caps::set(None, CapSet::Effective, &permitted)
}

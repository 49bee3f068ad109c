//! Emptying all five capability sets.

use caps::CapSet;

/// Clears bounding, ambient, inheritable, effective and permitted, in the order in which each is still allowed.
///
/// Capabilities that the kernel does not have, or that the bounding set lacks already, are passed over.
///
/// # Errors
/// prctl(2)'s or capset(2)'s. See capabilities(7).
pub fn drop_all() -> Result<(), caps::errors::CapsError> {
    // Dropping from the bounding set needs CAP_SETPCAP, so it goes before the permitted set.
    for capability in caps::all() {
        if caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false) {
            caps::drop(None, CapSet::Bounding, capability)?;
        }
    }
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

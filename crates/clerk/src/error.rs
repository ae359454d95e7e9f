//! Why a call has no result.

/// The outcome of a call without a result. It always says whether the call may have had an effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClerkError {
    /// It was surely not executed and never will be.
    #[error("not executed: {why}")]
    NotExecuted {
        /// What stood in its way.
        why: String,
    },
    /// It may have been executed, or may yet be (at most once). Calling again may have the effect a second time.
    #[error("unknown whether it was executed: {why}")]
    Unknown {
        /// What went wrong last.
        why: String,
    },
    /// The servers found it wrong: it changed nothing, and would not if it were asked again.
    #[error("rejected: {0}")]
    Rejected(
        /// The server's error, such as `ERR string exceeds maximum allowed size`.
        String,
    ),
}

impl ClerkError {
    /// Whether the call may have had an effect.
    pub fn may_have_happened(&self) -> bool {
        matches!(self, ClerkError::Unknown { .. })
    }
}

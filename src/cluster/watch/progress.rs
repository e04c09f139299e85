//! Decides where a watch goes on after a request has ended. Pure: a function of how the request
//! ended and of what is known.

use kube::Error;

use super::super::list::ListError;

/// How a watch request ended.
#[derive(Debug)]
pub(super) enum End<'a> {
    /// The API server ended it at the agreed time.
    OnTime,
    /// The API server ended it earlier.
    Early,
    /// It failed, or its connection died.
    Failed(&'a ListError),
}

/// The knowledge of a watch when a request ends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Knowledge {
    /// The watch is on a single object, which one cheap request reads again.
    pub single: bool,
    /// The request has reported a version after the one from which it began.
    pub heard: bool,
    /// The API server may not have the version from which the request began: etcd may have been
    /// restored.
    pub in_doubt: bool,
}

/// Where a watch goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Continuation {
    /// It reads again what is there.
    Read,
    /// It reads again what is there, because it is time. If that fails, it resumes.
    ReadOrResume {
        /// As for [`Resume`](Self::Resume).
        in_doubt: bool,
    },
    /// It resumes from the last known version.
    Resume {
        /// The API server may not have this version.
        in_doubt: bool,
    },
}

/// Decides where a watch goes on. `read_due` is true now and then, so that no lost event stays lost. A
/// list that fails then is no reason to give up a watch that works.
///
/// After a restore of etcd, an API server accepts a version from the future. It is then silent
/// until it has reached that version. It must have been restarted for that. So after each early end
/// the version is in doubt, until the next request reports something. If a request is silent to its
/// regular end while the version is in doubt, everything is read again.
pub(super) fn next(end: &End<'_>, known: Knowledge, read_due: bool) -> Continuation {
    match end {
        _ if read_due && known.single => Continuation::Read,
        _ if read_due => match next(end, known, false) {
            Continuation::Resume { in_doubt } => Continuation::ReadOrResume { in_doubt },
            other => other,
        },
        End::OnTime if known.in_doubt && !known.heard => Continuation::Read,
        End::OnTime => Continuation::Resume { in_doubt: false },
        End::Failed(error) if known.single || must_read(error) => Continuation::Read,
        End::Early | End::Failed(_) => Continuation::Resume { in_doubt: true },
    }
}

/// Returns true if the same request would fail again, or if the API server does not have the
/// version.
fn must_read(error: &ListError) -> bool {
    match error {
        ListError::NoVersion | ListError::TooLarge | ListError::Failed(Error::SerdeError(_)) => true,
        ListError::Failed(Error::Api(status)) => {
            let causes = status.details.iter().flat_map(|details| &details.causes);
            status.code == 410 || causes.into_iter().any(|cause| cause.reason == "ResourceVersionTooLarge")
        }
        ListError::Failed(_) | ListError::Silent => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESUME: Continuation = Continuation::Resume { in_doubt: false };
    const RESUME_IN_DOUBT: Continuation = Continuation::Resume { in_doubt: true };

    fn refusal(json: &str) -> ListError {
        Error::Api(serde_json::from_str(json).expect("a Status")).into()
    }

    fn known(in_doubt: bool, heard: bool) -> Knowledge {
        Knowledge { heard, in_doubt, ..Knowledge::default() }
    }

    #[test]
    fn resumes_after_a_regular_end() {
        for heard in [true, false] {
            assert_eq!(next(&End::OnTime, known(false, heard), false), RESUME);
        }
    }

    #[test]
    fn doubts_the_version_after_an_early_end() {
        assert_eq!(next(&End::Early, known(false, true), false), RESUME_IN_DOUBT);
        assert_eq!(next(&End::Failed(&ListError::Silent), known(false, true), false), RESUME_IN_DOUBT);
    }

    #[test]
    fn reads_again_if_a_doubtful_version_is_silent() {
        assert_eq!(next(&End::OnTime, known(true, false), false), Continuation::Read);
        assert_eq!(next(&End::OnTime, known(true, true), false), RESUME, "the API server has reported a later version");
        assert_eq!(next(&End::Early, known(true, false), false), RESUME_IN_DOUBT, "the request was too short to tell");
    }

    #[test]
    fn reads_again_if_the_version_is_expired_or_missing_or_from_the_future() {
        let too_large = r#"{"code": 504, "reason": "Timeout", "message": "Too large resource version: 9, current: 1",
            "details": {"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]}}"#;
        let unreadable = serde_json::from_str::<u8>("").expect_err("not a number");
        let errors = [
            refusal(r#"{"code": 410, "reason": "Expired"}"#),
            refusal(too_large),
            ListError::NoVersion,
            Error::SerdeError(unreadable).into(),
        ];
        for error in errors {
            assert_eq!(next(&End::Failed(&error), known(false, true), false), Continuation::Read, "{error:?}");
        }
    }

    #[test]
    fn resumes_after_other_refusals() {
        for json in
            [r#"{"code": 403}"#, r#"{"code": 429}"#, r#"{"code": 500}"#, r#"{"code": 504, "reason": "Timeout"}"#]
        {
            assert_eq!(next(&End::Failed(&refusal(json)), known(false, false), false), RESUME_IN_DOUBT, "{json}");
        }
    }

    #[test]
    fn reads_a_single_object_again_after_each_failure() {
        let known = Knowledge { single: true, ..known(false, true) };
        assert_eq!(next(&End::Failed(&ListError::Silent), known, false), Continuation::Read);
        assert_eq!(next(&End::OnTime, known, false), RESUME);
    }

    #[test]
    fn reads_again_now_and_then() {
        let failed = End::Failed(&ListError::Silent);
        for (end, in_doubt) in [(&End::OnTime, false), (&End::Early, true), (&failed, true)] {
            assert_eq!(next(end, known(false, true), true), Continuation::ReadOrResume { in_doubt });
            let single = Knowledge { single: true, ..known(false, true) };
            assert_eq!(next(end, single, true), Continuation::Read);
        }
        assert_eq!(next(&End::OnTime, known(true, false), true), Continuation::Read, "the version may be wrong");
    }
}

//! Names and ARNs of functions, in every form that AWS takes: `name`, `name:qualifier`, `ACCOUNT:function:name`,
//! `function:name`, and the whole ARN, each with or without a qualifier.

use super::{ControlError, ErrorKind, Settings};

/// A function, and the qualifier where one was given in the name, the ARN, or beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionName {
    pub name: String,
    pub qualifier: Option<String>,
    pub region: Option<String>,
    pub account: Option<String>,
}

/// AWS's limit on a bare name.
pub const MAX_NAME: usize = 64;
pub const LATEST: &str = "$LATEST";
const FUNCTION: &str = "function";

impl FunctionName {
    /// Reads a name that matches the model's pattern, beside the `Qualifier` parameter.
    ///
    /// The pattern's parts are all optional, so a name may look like one of them: `arn:…:ACCOUNT:function` names a
    /// function called `function`, and `my-func-1:live` is no region before a name.
    ///
    /// # Errors
    /// The two qualifiers disagree.
    pub fn parse(text: &str, qualifier: Option<&str>) -> Result<Self, ControlError> {
        // arn:PARTITION:lambda:…
        let arn = text.strip_prefix("arn:").and_then(|arn| arn.splitn(3, ':').nth(2));
        let mut rest = arn.unwrap_or(text);
        let (mut region, mut account) = (None, None);
        if let Some((first, after)) = rest.split_once(':')
            && (arn.is_some() || after.split(':').next().is_some_and(is_account))
            && !is_account(first)
            && first != FUNCTION
        {
            (region, rest) = (Some(first.to_owned()), after);
        }
        if let Some((first, after)) = rest.split_once(':')
            && is_account(first)
        {
            (account, rest) = (Some(first.to_owned()), after);
        }
        if let Some((first, after)) = rest.split_once(':')
            && first == FUNCTION
        {
            rest = after;
        }
        let (name, inside) = rest.split_once(':').map_or((rest, None), |(n, q)| (n, Some(q)));
        let beside = qualifier.filter(|q| !q.is_empty());
        if let (Some(inside), Some(beside)) = (inside, beside)
            && inside != beside
        {
            let text = "The derived qualifier from the function name does not match the specified qualifier.";
            return Err(ControlError::invalid(text));
        }
        let qualifier = inside.or(beside).map(str::to_owned);
        Ok(Self { name: name.into(), qualifier, region, account })
    }

    /// As [`Self::parse`], and the region and account must be this server's.
    ///
    /// # Errors
    /// Also a region or account that is not ours.
    pub fn resolve(
        text: &str,
        qualifier: Option<&str>,
        settings: &Settings,
    ) -> Result<Self, ControlError> {
        let found = Self::parse(text, qualifier)?;
        if found.region.as_ref().is_some_and(|r| *r != settings.region) {
            let text = format!(
                "Functions from '{}' are not reachable in this region ('{}')",
                found.region.unwrap_or_default(),
                settings.region
            );
            return Err(ControlError::not_found(text));
        }
        if found.account.as_ref().is_some_and(|a| *a != settings.account) {
            let text = format!(
                "User is not authorized to perform this operation on functions of account {}",
                found.account.unwrap_or_default()
            );
            return Err(ControlError::new(ErrorKind::AccessDenied, text));
        }
        Ok(found)
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

impl Settings {
    /// `arn:aws:lambda:REGION:ACCOUNT:function:NAME`, with `:QUALIFIER` where given.
    pub fn function_arn(&self, name: &str, qualifier: Option<&str>) -> String {
        let (region, account) = (&self.region, &self.account);
        match qualifier {
            None => format!("arn:aws:lambda:{region}:{account}:function:{name}"),
            Some(qualifier) => {
                format!("arn:aws:lambda:{region}:{account}:function:{name}:{qualifier}")
            }
        }
    }

    /// `arn:aws:lambda:REGION:ACCOUNT:layer:NAME`, with `:VERSION` where given.
    pub fn layer_arn(&self, name: &str, version: Option<u64>) -> String {
        let base = format!("arn:aws:lambda:{}:{}:layer:{name}", self.region, self.account);
        version.map_or_else(|| base.clone(), |v| format!("{base}:{v}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, Option<String>, Option<String>, Option<String>) {
        let f = FunctionName::parse(text, None).unwrap();
        (f.name, f.qualifier, f.region, f.account)
    }

    #[test]
    fn every_form_of_a_name_is_read() {
        let some = |s: &str| Some(s.to_owned());
        let account = || some("000000000000");
        for (text, want) in [
            ("f", ("f", None, None, None)),
            ("f:1", ("f", some("1"), None, None)),
            ("f:$LATEST", ("f", some("$LATEST"), None, None)),
            ("000000000000:f", ("f", None, None, account())),
            ("function:f:live", ("f", some("live"), None, None)),
            ("000000000000:function:f", ("f", None, None, account())),
            ("us-east-1:000000000000:function:f:2", ("f", some("2"), some("us-east-1"), account())),
            (
                "arn:aws:lambda:us-east-1:000000000000:function:f",
                ("f", None, some("us-east-1"), account()),
            ),
            (
                "arn:aws:lambda:us-east-1:000000000000:function:f:live",
                ("f", some("live"), some("us-east-1"), account()),
            ),
            ("function", ("function", None, None, None)),
            ("function:f", ("f", None, None, None)),
            (
                "arn:aws:lambda:us-east-1:000000000000:function",
                ("function", None, some("us-east-1"), account()),
            ),
            ("000000000000:function", ("function", None, None, account())),
            // As good as a region's name, and more likely a function's.
            ("my-func-1:live", ("my-func-1", some("live"), None, None)),
            ("my-func-1", ("my-func-1", None, None, None)),
            ("us-east-1:000000000000:f", ("f", None, some("us-east-1"), account())),
            (
                "arn:aws-us-gov:lambda:us-gov-west-1:000000000000:function:function:1",
                ("function", some("1"), some("us-gov-west-1"), account()),
            ),
        ] {
            let want = (want.0.to_owned(), want.1, want.2, want.3);
            assert_eq!(parsed(text), want, "{text}");
        }
    }

    #[test]
    fn another_region_or_account_is_not_reachable() {
        let settings = crate::control::replay::settings(std::path::Path::new("/nowhere"));
        let resolve = |text: &str| FunctionName::resolve(text, None, &settings);
        let error = resolve("arn:aws:lambda:ap-southeast-1:000000000000:function:f").unwrap_err();
        assert_eq!(error.kind, ErrorKind::ResourceNotFound);
        assert_eq!(
            error.message,
            "Functions from 'ap-southeast-1' are not reachable in this region ('us-east-1')"
        );
        for other in ["arn:aws:lambda:us-east-1:123456789012:function:f", "123456789012:f"] {
            assert_eq!(resolve(other).unwrap_err().kind, ErrorKind::AccessDenied, "{other}");
        }
        assert_eq!(resolve("us-east-1:000000000000:function:f").unwrap().name, "f");
    }

    #[test]
    fn two_qualifiers_must_agree() {
        assert!(FunctionName::parse("f:1", Some("1")).is_ok());
        let error = FunctionName::parse("f:1", Some("2")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidParameterValue);
        assert_eq!(
            FunctionName::parse("f", Some("live")).unwrap().qualifier.as_deref(),
            Some("live")
        );
    }
}

//! Resource policies of functions: AddPermission and its siblings, and the whole-policy operations of the newer model.
//! Who may do what under a policy is judged in [`access`].
//!
//! A policy belongs to one qualifier: the function itself, a version or an alias. As on AWS, a change gives both the
//! policy and what it belongs to the same new revision id.

mod access;
mod render;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use access::{AccessRequest, Principal, allows};
pub(crate) use render::{policy_text, statement_text};

use super::lookup::{Found, Qualified, QualifierForm, attempt, fence, replace, uuid};
use super::names::{FunctionName, LATEST};
use super::records::{self, FunctionRecord, PolicyRecord};
use super::{Control, ControlError, ErrorKind, answer, request};
use crate::store::Batch;

/// AWS's limit on a function's policy, in bytes.
pub const MAX_POLICY_BYTES: usize = 20_480;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AddPermission {
    function_name: String,
    statement_id: String,
    action: String,
    principal: String,
    source_arn: Option<String>,
    source_account: Option<String>,
    event_source_token: Option<String>,
    function_url_auth_type: Option<String>,
    invoked_via_function_url: Option<bool>,
    #[serde(rename = "PrincipalOrgID")]
    principal_org_id: Option<String>,
    qualifier: Option<String>,
    revision_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RemovePermission {
    function_name: String,
    statement_id: String,
    qualifier: Option<String>,
    revision_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetPolicy {
    function_name: String,
    qualifier: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ResourcePolicy {
    resource_arn: String,
    policy: Option<String>,
    revision_id: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct PolicyAnswer {
    policy: String,
    revision_id: String,
}

/// A function, what the request's qualifier leads to, and the policy there.
struct Place {
    function: Found<FunctionRecord>,
    qualified: Qualified,
    /// `$LATEST` where none was given.
    qualifier: String,
    policy: Option<Found<PolicyRecord>>,
}

impl Place {
    fn key(&self) -> String {
        records::qualified_key("policy", &self.function.record.name, &self.qualifier)
    }

    /// AWS takes the revision of the policy and that of what it belongs to.
    fn check_revision(&self, given: Option<&str>) -> Result<(), ControlError> {
        let Some(given) = given.filter(|g| !g.is_empty()) else { return Ok(()) };
        let own = match &self.qualified {
            Qualified::Latest => &self.function.record.latest.revision_id,
            Qualified::Version(version) => &version.record.revision_id,
            Qualified::Alias(alias) => &alias.record.revision_id,
        };
        let policy = self.policy.as_ref().map(|p| &p.record.revision_id);
        if given == own || policy.is_some_and(|p| given == p) {
            return Ok(());
        }
        let text = "The Revision Id provided does not match the latest Revision Id. Call the GetPolicy API to retrieve the latest Revision Id";
        Err(ControlError::new(ErrorKind::PreconditionFailed, text))
    }

    /// Puts the policy there, or removes it where it has no statement, under a new revision id.
    fn write(mut self, statements: Vec<Value>) -> Result<(Batch, PolicyRecord), ControlError> {
        let policy = PolicyRecord { statements, revision_id: uuid() };
        let bytes = policy_text(&policy.statements).len();
        if bytes > MAX_POLICY_BYTES {
            let text = format!(
                "The final policy size ({bytes}) is bigger than the limit ({MAX_POLICY_BYTES})."
            );
            return Err(ControlError::new(ErrorKind::PolicyLengthExceeded, text));
        }
        let mut batch = Batch::default();
        let key = self.key();
        let revision = self.policy.as_ref().map(|p| p.revision);
        if policy.statements.is_empty() {
            batch.expect.push((key.clone(), revision));
            batch.delete.push(key);
        } else {
            replace(&mut batch, key, revision, &policy)?;
        }
        let name = self.function.record.name.clone();
        match self.qualified {
            Qualified::Latest => {
                self.function.record.latest.revision_id.clone_from(&policy.revision_id);
            }
            Qualified::Version(mut version) => {
                version.record.revision_id.clone_from(&policy.revision_id);
                let number = version.record.version.parse().unwrap_or_default();
                let key = records::version_key(&name, number);
                replace(&mut batch, key, Some(version.revision), &version.record)?;
            }
            Qualified::Alias(mut alias) => {
                alias.record.revision_id.clone_from(&policy.revision_id);
                let key = records::alias_key(&name, &alias.record.name);
                replace(&mut batch, key, Some(alias.revision), &alias.record)?;
            }
        }
        fence(&mut batch, &self.function)?;
        Ok((batch, policy))
    }
}

impl Control {
    /// `AddPermission`.
    pub async fn add_permission(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: AddPermission = request(members)?;
        let named = self.resolve_name(&asked.function_name, asked.qualifier.as_deref())?;
        if named.qualifier.as_deref() == Some(LATEST) {
            let text = "We currently do not support adding policies for $LATEST.";
            return Err(ControlError::invalid(text));
        }
        let resource = self.settings.function_arn(&named.name, named.qualifier.as_deref());
        let statement = statement(&asked, &resource)?;
        attempt!({
            let place = self.policy_place(&named).await?;
            place.check_revision(asked.revision_id.as_deref())?;
            let mut statements =
                place.policy.as_ref().map_or_else(Vec::new, |p| p.record.statements.clone());
            if statements.iter().any(|s| has_sid(s, &asked.statement_id)) {
                return Err(duplicate_statement(&asked.statement_id));
            }
            statements.push(statement.clone());
            let (batch, _) = place.write(statements)?;
            self.commit(batch, Some(&named.name)).await
        })?;
        answer(json!({ "Statement": statement_text(&statement) }))
    }

    /// `RemovePermission`.
    pub async fn remove_permission(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: RemovePermission = request(members)?;
        let named = self.resolve_name(&asked.function_name, asked.qualifier.as_deref())?;
        attempt!({
            if self.find_function(&named.name).await?.is_none() {
                let arn = self.settings.function_arn(&named.name, named.qualifier.as_deref());
                return Err(ControlError::not_found(format!("No policy found for: {arn}")));
            }
            let place = self.policy_place(&named).await?;
            let Some(policy) = &place.policy else {
                let text = "No policy is associated with the given resource.";
                return Err(ControlError::not_found(text));
            };
            let statements = without_statement(&policy.record.statements, &asked.statement_id)?;
            place.check_revision(asked.revision_id.as_deref())?;
            let (batch, _) = place.write(statements)?;
            self.commit(batch, Some(&named.name)).await
        })?;
        Ok(Map::new())
    }

    /// `GetPolicy`.
    pub async fn get_policy(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: GetPolicy = request(members)?;
        let named = self.resolve_name(&asked.function_name, asked.qualifier.as_deref())?;
        answer(self.policy_answer(&named).await?)
    }

    /// `PutResourcePolicy`: replaces the whole policy of a function, a version or an alias.
    pub async fn put_resource_policy(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: ResourcePolicy = request(members)?;
        let named = self.resolve_name(&asked.resource_arn, None)?;
        let statements = render::parse_policy(asked.policy.as_deref().unwrap_or_default())?;
        let policy = attempt!({
            let place = self.policy_place(&named).await?;
            place.check_revision(asked.revision_id.as_deref())?;
            let (batch, policy) = place.write(statements.clone())?;
            self.commit(batch, Some(&named.name)).await?;
            Ok(policy)
        })?;
        answer(PolicyAnswer {
            policy: policy_text(&policy.statements),
            revision_id: policy.revision_id,
        })
    }

    /// `GetResourcePolicy`.
    pub async fn get_resource_policy(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: ResourcePolicy = request(members)?;
        let named = self.resolve_name(&asked.resource_arn, None)?;
        answer(self.policy_answer(&named).await?)
    }

    /// `DeleteResourcePolicy`.
    pub async fn delete_resource_policy(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: ResourcePolicy = request(members)?;
        let named = self.resolve_name(&asked.resource_arn, None)?;
        attempt!({
            let place = self.policy_place(&named).await?;
            place.check_revision(asked.revision_id.as_deref())?;
            if place.policy.is_none() {
                return Err(no_such_resource());
            }
            let (batch, _) = place.write(Vec::new())?;
            self.commit(batch, Some(&named.name)).await
        })?;
        Ok(Map::new())
    }

    async fn policy_answer(&self, named: &FunctionName) -> Result<PolicyAnswer, ControlError> {
        let qualifier = named.qualifier.as_deref().unwrap_or(LATEST);
        let key = records::qualified_key("policy", &named.name, qualifier);
        let (policy, _) = self.read::<PolicyRecord>(&key).await?.ok_or_else(no_such_resource)?;
        Ok(PolicyAnswer {
            policy: policy_text(&policy.statements),
            revision_id: policy.revision_id,
        })
    }

    async fn policy_place(&self, named: &FunctionName) -> Result<Place, ControlError> {
        let qualifier = named.qualifier.as_deref().unwrap_or(LATEST);
        let missing = || match QualifierForm::of(qualifier) {
            QualifierForm::Latest => self.function_missing(&named.name, None),
            _ => self.qualifier_missing(&named.name, qualifier),
        };
        let function = self.find_function(&named.name).await?.ok_or_else(missing)?;
        let found = self.find_qualified(&named.name, qualifier).await?;
        let qualified = found.ok_or_else(missing)?;
        let key = records::qualified_key("policy", &named.name, qualifier);
        let policy = self.find(&key).await?;
        Ok(Place { function, qualified, qualifier: qualifier.to_owned(), policy })
    }
}

fn no_such_resource() -> ControlError {
    ControlError::not_found("The resource you requested does not exist.")
}

pub(crate) fn duplicate_statement(sid: &str) -> ControlError {
    ControlError::conflict(format!(
        "The statement id ({sid}) provided already exists. Please provide a new statement id, or remove the existing statement."
    ))
}

pub(crate) fn has_sid(statement: &Value, sid: &str) -> bool {
    statement.get("Sid").and_then(Value::as_str) == Some(sid)
}

/// # Errors
/// No statement has the id.
pub(crate) fn without_statement(
    statements: &[Value],
    sid: &str,
) -> Result<Vec<Value>, ControlError> {
    let rest: Vec<Value> = statements.iter().filter(|s| !has_sid(s, sid)).cloned().collect();
    if rest.len() == statements.len() {
        let text = format!("Statement {sid} is not found in resource policy.");
        return Err(ControlError::not_found(text));
    }
    Ok(rest)
}

/// The statement as AWS writes it.
fn statement(asked: &AddPermission, resource: &str) -> Result<Value, ControlError> {
    if asked.function_url_auth_type.is_some() && asked.action != "lambda:InvokeFunctionUrl" {
        let text = "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action";
        return Err(ControlError::invalid(text));
    }
    let mut conditions = Map::new();
    let mut equals = Map::new();
    for (key, value) in [
        ("AWS:SourceAccount", &asked.source_account),
        ("aws:PrincipalOrgID", &asked.principal_org_id),
        ("lambda:EventSourceToken", &asked.event_source_token),
        ("lambda:FunctionUrlAuthType", &asked.function_url_auth_type),
    ] {
        if let Some(value) = value {
            equals.insert(key.into(), value.as_str().into());
        }
    }
    if !equals.is_empty() {
        conditions.insert("StringEquals".into(), equals.into());
    }
    if let Some(arn) = &asked.source_arn {
        conditions.insert("ArnLike".into(), json!({ "AWS:SourceArn": arn }));
    }
    if let Some(via) = asked.invoked_via_function_url {
        let value = json!({ "lambda:InvokedViaFunctionUrl": via.to_string() });
        conditions.insert("Bool".into(), value);
    }
    let mut statement = json!({
        "Sid": asked.statement_id,
        "Effect": "Allow",
        "Principal": principal(&asked.principal)?,
        "Action": asked.action,
        "Resource": resource,
    });
    if !conditions.is_empty() {
        statement["Condition"] = conditions.into();
    }
    Ok(statement)
}

/// A principal as AWS writes it: an account becomes its root, a service keeps its name.
pub(crate) fn principal(given: &str) -> Result<Value, ControlError> {
    const SERVICES: [&str; 4] =
        [".amazonaws.com", ".amazonaws.com.cn", ".amazon.com", ".aws.internal"];
    if given == "*" {
        return Ok("*".into());
    }
    if given.len() == 12 && given.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(json!({ "AWS": format!("arn:aws:iam::{given}:root") }));
    }
    let arn: Vec<&str> = given.splitn(6, ':').collect();
    if let ["arn", _, "iam" | "sts", _, account, name] = arn[..] {
        let account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        if account && !name.is_empty() && !name.contains('*') {
            return Ok(json!({ "AWS": given }));
        }
    } else if SERVICES.iter().any(|s| given.len() > s.len() && given.ends_with(s)) {
        return Ok(json!({ "Service": given }));
    }
    let text = "The provided principal was invalid. Please check the principal and try again.";
    Err(ControlError::invalid(text))
}

#[cfg(test)]
mod tests;

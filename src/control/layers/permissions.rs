//! Who may use a layer version: AddLayerVersionPermission and its siblings.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{LayerVersionRecord, layer_number};
use crate::control::lookup::{Found, attempt, uuid};
use crate::control::policy::{
    MAX_POLICY_BYTES, duplicate_statement, has_sid, policy_text, principal, statement_text,
    without_statement,
};
use crate::control::records::PolicyRecord;
use crate::control::{Control, ControlError, ErrorKind, answer, request};

/// Of all three operations; each has the members that the model requires of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Permission {
    layer_name: String,
    version_number: i64,
    #[serde(default)]
    statement_id: String,
    #[serde(default)]
    action: String,
    #[serde(default)]
    principal: String,
    organization_id: Option<String>,
    revision_id: Option<String>,
}

impl Control {
    /// `AddLayerVersionPermission`.
    pub async fn add_layer_version_permission(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Permission = request(members)?;
        let name = self.layer_name(&asked.layer_name)?;
        let mut statement = json!({
            "Sid": asked.statement_id,
            "Effect": "Allow",
            "Principal": principal(&asked.principal)?,
            "Action": asked.action,
        });
        if let Some(organization) = &asked.organization_id {
            statement["Condition"] =
                json!({ "StringEquals": { "aws:PrincipalOrgID": organization } });
        }
        let (statement, revision_id) = attempt!({
            let found = self.permitted_layer(name, asked.version_number).await?;
            let mut statement = statement.clone();
            statement["Resource"] = found.record.arn.as_str().into();
            check_revision(&found.record, asked.revision_id.as_deref())?;
            let mut policy = found.record.policy.clone().unwrap_or_default();
            if policy.statements.iter().any(|s| has_sid(s, &asked.statement_id)) {
                return Err(duplicate_statement(&asked.statement_id));
            }
            policy.statements.push(statement.clone());
            let bytes = policy_text(&policy.statements).len();
            if bytes > MAX_POLICY_BYTES {
                let text = format!(
                    "The final policy size ({bytes}) is bigger than the limit ({MAX_POLICY_BYTES})."
                );
                return Err(ControlError::new(ErrorKind::PolicyLengthExceeded, text));
            }
            policy.revision_id = uuid();
            let revision_id = policy.revision_id.clone();
            self.put_layer_policy(name, found.record, found.revision, Some(policy)).await?;
            Ok((statement, revision_id))
        })?;
        answer(json!({ "Statement": statement_text(&statement), "RevisionId": revision_id }))
    }

    /// `GetLayerVersionPolicy`.
    pub async fn get_layer_version_policy(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Permission = request(members)?;
        let name = self.layer_name(&asked.layer_name)?;
        let found = self.permitted_layer(name, asked.version_number).await?;
        let policy = found.record.policy.ok_or_else(no_policy)?;
        answer(json!({
            "Policy": policy_text(&policy.statements),
            "RevisionId": policy.revision_id,
        }))
    }

    /// `RemoveLayerVersionPermission`.
    pub async fn remove_layer_version_permission(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Permission = request(members)?;
        let name = self.layer_name(&asked.layer_name)?;
        attempt!({
            let found = self.permitted_layer(name, asked.version_number).await?;
            check_revision(&found.record, asked.revision_id.as_deref())?;
            let policy = found.record.policy.as_ref().ok_or_else(no_policy)?;
            let statements = without_statement(&policy.statements, &asked.statement_id)?;
            let policy =
                (!statements.is_empty()).then(|| PolicyRecord { statements, revision_id: uuid() });
            self.put_layer_policy(name, found.record, found.revision, policy).await
        })?;
        Ok(Map::new())
    }

    async fn permitted_layer(
        &self,
        name: &str,
        number: i64,
    ) -> Result<Found<LayerVersionRecord>, ControlError> {
        let version = layer_number(number)?;
        self.layer_version(name, version).await?.ok_or_else(|| {
            let arn = self.settings.layer_arn(name, Some(version));
            ControlError::not_found(format!("Layer version {arn} does not exist."))
        })
    }
}

fn check_revision(record: &LayerVersionRecord, given: Option<&str>) -> Result<(), ControlError> {
    let Some(given) = given.filter(|given| !given.is_empty()) else { return Ok(()) };
    if record.policy.as_ref().is_some_and(|policy| policy.revision_id == given) {
        return Ok(());
    }
    let text = "The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy API to retrieve the latest Revision Id";
    Err(ControlError::new(ErrorKind::PreconditionFailed, text))
}

fn no_policy() -> ControlError {
    ControlError::not_found("No policy is associated with the given resource.")
}

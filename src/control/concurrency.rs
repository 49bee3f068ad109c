//! Reserved and provisioned concurrency, as far as it is written down: who holds instances is the pool's affair, and
//! how many of those asked for are there it tells through [`super::Hooks`].

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::lookup::{Found, Page, Qualified, attempt, fence, now_text, replace};
use super::names::LATEST;
use super::records::{self, AliasRecord, FunctionRecord, ProvisionedRecord};
use super::{Control, ControlError, ErrorKind, answer, request};
use crate::store::{Batch, Revision};

/// What AWS keeps of an account's concurrency for functions without a reservation.
pub const MIN_UNRESERVED: u32 = 100;
/// Written by whoever changes what functions hold of the account's concurrency: two that change it at the same time
/// would each see room that the other takes.
const ACCOUNT: &str = "account/concurrency";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Reserve {
    function_name: String,
    reserved_concurrent_executions: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Provision {
    function_name: String,
    #[serde(default)]
    qualifier: String,
    provisioned_concurrent_executions: Option<u32>,
    #[serde(flatten)]
    page: Page,
}

impl Provision {
    fn place(&self, control: &Control) -> Result<(String, String), ControlError> {
        control.resolve_place(&self.function_name, Some(&self.qualifier))
    }
}

/// The part of a function's record that is counted here.
#[derive(Debug, Deserialize)]
struct Reserved {
    name: String,
    #[serde(default)]
    reserved_concurrency: Option<u32>,
}

/// What functions hold of the account's concurrency.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Reserved, by function.
    reserved: HashMap<String, u32>,
    /// Provisioned, by function and qualifier.
    provisioned: HashMap<(String, String), u32>,
}

impl Held {
    /// What is left for functions without a reservation: a function's provisioned instances come out of its own
    /// reservation where it has one.
    pub fn unreserved(&self, account: u32) -> u32 {
        let provisioned = self.provisioned.iter();
        let outside = provisioned.filter(|((name, _), _)| !self.reserved.contains_key(name));
        let held: u64 = self.reserved.values().map(|n| u64::from(*n)).sum::<u64>()
            + outside.map(|(_, n)| u64::from(*n)).sum::<u64>();
        u32::try_from(u64::from(account).saturating_sub(held)).unwrap_or(account)
    }

    fn provisioned_of(&self, name: &str) -> u32 {
        let own = self.provisioned.iter().filter(|((function, _), _)| function == name);
        own.map(|(_, n)| *n).fold(0, u32::saturating_add)
    }
}

impl Control {
    /// `PutFunctionConcurrency`.
    pub async fn put_function_concurrency(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Reserve = request(members)?;
        let wanted = asked.reserved_concurrent_executions.unwrap_or_default();
        let named = self.resolve_name(&asked.function_name, None)?;
        if named.qualifier.is_some() {
            let text = "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. Please specify either a function name or an unqualified function ARN.";
            return Err(ControlError::invalid(text));
        }
        attempt!({
            let guard = self.account_guard().await?;
            let found = self.find_function(&named.name).await?;
            let mut function =
                found.ok_or_else(|| self.function_missing(&named.name, Some(LATEST)))?;
            let mut held = self.held().await?;
            held.reserved.remove(&named.name);
            let provisioned = held.provisioned_of(&named.name);
            if wanted < provisioned {
                let text = format!(
                    " ReservedConcurrentExecutions  {wanted} should not be lower than function's total provisioned concurrency [{provisioned}]."
                );
                return Err(ControlError::invalid(text));
            }
            // What is provisioned comes out of the reservation from now on.
            held.provisioned.retain(|(name, _), _| *name != named.name);
            let left = held.unreserved(self.settings.account_concurrency).checked_sub(wanted);
            let least = MIN_UNRESERVED.min(self.settings.account_concurrency);
            // 0 takes nothing: it stops the function.
            if wanted > 0 && left.is_none_or(|left| left < least) {
                let text = format!(
                    "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [{least}]."
                );
                return Err(ControlError::invalid(text));
            }
            function.record.reserved_concurrency = Some(wanted);
            let mut batch = Batch::default();
            batch.put.push((records::reserved_key(&named.name), super::encode(&wanted)?));
            fence(&mut batch, &function)?;
            replace(&mut batch, ACCOUNT.into(), guard, &())?;
            self.commit(batch, Some(&named.name)).await
        })?;
        answer(json!({ "ReservedConcurrentExecutions": wanted }))
    }

    /// `GetFunctionConcurrency`: empty where nothing is reserved.
    pub async fn get_function_concurrency(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Reserve = request(members)?;
        let named = self.resolve_name(&asked.function_name, None)?;
        let function = self.need_function(&named.name).await?.record;
        answer(json!({ "ReservedConcurrentExecutions": function.reserved_concurrency }))
    }

    /// `DeleteFunctionConcurrency`.
    pub async fn delete_function_concurrency(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Reserve = request(members)?;
        let named = self.resolve_name(&asked.function_name, None)?;
        attempt!({
            let guard = self.account_guard().await?;
            let mut function = self.need_function(&named.name).await?;
            if function.record.reserved_concurrency.take().is_none() {
                return Ok(());
            }
            let delete = vec![records::reserved_key(&named.name)];
            let mut batch = Batch { delete, ..Batch::default() };
            fence(&mut batch, &function)?;
            replace(&mut batch, ACCOUNT.into(), guard, &())?;
            self.commit(batch, Some(&named.name)).await.map(drop)
        })?;
        Ok(Map::new())
    }

    /// `PutProvisionedConcurrencyConfig`.
    pub async fn put_provisioned_concurrency_config(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Provision = request(members)?;
        let wanted = asked.provisioned_concurrent_executions.unwrap_or_default();
        let (name, qualifier) = asked.place(self)?;
        let unpublished = || {
            let text = "Provisioned Concurrency Configs cannot be applied to unpublished function versions.";
            ControlError::invalid(text)
        };
        if qualifier == LATEST {
            return Err(unpublished());
        }
        let record = attempt!({
            let guard = self.account_guard().await?;
            let (function, qualified) = self.provisionable(&name, &qualifier).await?;
            let mut held = self.held().await?;
            let key = (name.clone(), qualifier.clone());
            held.provisioned.remove(&key);
            match &qualified {
                Qualified::Alias(alias) if alias.record.version == LATEST => {
                    return Err(unpublished());
                }
                Qualified::Alias(alias) => {
                    let of_version = (name.clone(), alias.record.version.clone());
                    if held.provisioned.contains_key(&of_version) {
                        let text = "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version";
                        return Err(ControlError::conflict(text));
                    }
                }
                Qualified::Version(_) | Qualified::Latest => {
                    self.not_behind_a_provisioned_alias(&name, &qualifier, &held).await?;
                }
            }
            self.check_room(&function.record, wanted, &held)?;
            let record = ProvisionedRecord { requested: wanted, last_modified: now_text() };
            let mut batch = Batch::default();
            let key = records::qualified_key("provisioned", &name, &qualifier);
            batch.put.push((key, super::encode(&record)?));
            // An alias that is deleted or moved meanwhile makes this run again.
            if let Qualified::Alias(alias) = &qualified {
                let key = records::alias_key(&name, &qualifier);
                replace(&mut batch, key, Some(alias.revision), &alias.record)?;
            }
            fence(&mut batch, &function)?;
            replace(&mut batch, ACCOUNT.into(), guard, &())?;
            self.commit(batch, Some(&name)).await?;
            Ok(record)
        })?;
        let mut shown = self.show_provisioned(&name, &qualifier, &record);
        // On AWS, too, the answer never says that it is done already.
        shown["Status"] = "IN_PROGRESS".into();
        answer(shown)
    }

    /// `GetProvisionedConcurrencyConfig`.
    pub async fn get_provisioned_concurrency_config(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Provision = request(members)?;
        let (name, qualifier) = asked.place(self)?;
        self.provisionable(&name, &qualifier).await?;
        let key = records::qualified_key("provisioned", &name, &qualifier);
        let Some((record, _)) = self.read::<ProvisionedRecord>(&key).await? else {
            let kind = ErrorKind::ProvisionedConcurrencyConfigNotFound;
            let text = "No Provisioned Concurrency Config found for this function";
            return Err(ControlError::new(kind, text));
        };
        answer(self.show_provisioned(&name, &qualifier, &record))
    }

    /// `DeleteProvisionedConcurrencyConfig`; well where there is none.
    pub async fn delete_provisioned_concurrency_config(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Provision = request(members)?;
        let (name, qualifier) = asked.place(self)?;
        self.provisionable(&name, &qualifier).await?;
        let key = records::qualified_key("provisioned", &name, &qualifier);
        if self.store.get(&key).await?.is_some() {
            let batch = Batch { delete: vec![key], ..Batch::default() };
            self.commit(batch, Some(&name)).await?;
        }
        Ok(Map::new())
    }

    /// `ListProvisionedConcurrencyConfigs`.
    pub async fn list_provisioned_concurrency_configs(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Provision = request(members)?;
        let named = self.resolve_name(&asked.function_name, None)?;
        self.need_function(&named.name).await?;
        let prefix = format!("provisioned/{}/", named.name);
        let show = |qualifier: &str, record: &ProvisionedRecord| {
            let mut shown = self.show_provisioned(&named.name, qualifier, record);
            shown["FunctionArn"] = self.settings.function_arn(&named.name, Some(qualifier)).into();
            shown
        };
        self.show_page(&prefix, &asked.page, "ProvisionedConcurrencyConfigs", show).await
    }

    /// What functions hold of the account's concurrency now.
    pub(crate) async fn held(&self) -> Result<Held, ControlError> {
        let mut held = Held { reserved: self.reserved_keys().await?, ..Held::default() };
        self.walk::<ProvisionedRecord>("provisioned/", |key, record| {
            if let [_, name, qualifier] = key.split('/').collect::<Vec<_>>()[..] {
                held.provisioned.insert((name.into(), qualifier.into()), record.requested);
            }
        })
        .await?;
        Ok(held)
    }

    /// Reserved concurrency by function, from the keys that are there for it alone.
    async fn reserved_keys(&self) -> Result<HashMap<String, u32>, ControlError> {
        let mut reserved = HashMap::new();
        self.walk::<u32>(records::RESERVED, |key, executions| {
            reserved.insert(key[records::RESERVED.len()..].to_owned(), executions);
        })
        .await?;
        Ok(reserved)
    }

    /// Reserved concurrency of every function that has any, by the functions' own records, which are all read: for the
    /// server's start. Their keys, which a store of an earlier Kennel lacks, are made to say the same.
    ///
    /// # Errors
    /// The store's.
    pub async fn reservations(&self) -> Result<HashMap<String, u32>, ControlError> {
        let mut reserved = HashMap::new();
        self.walk::<Reserved>("function/", |_, function| {
            if let Some(executions) = function.reserved_concurrency {
                reserved.insert(function.name, executions);
            }
        })
        .await?;
        let keys = self.reserved_keys().await?;
        if keys != reserved {
            let gone = keys.keys().filter(|name| !reserved.contains_key(*name));
            let delete = gone.map(|name| records::reserved_key(name)).collect();
            let mut batch = Batch { delete, ..Batch::default() };
            for (name, executions) in &reserved {
                batch.put.push((records::reserved_key(name), super::encode(executions)?));
            }
            self.commit(batch, None).await?;
        }
        Ok(reserved)
    }

    /// Every provisioned concurrency: function, qualifier, and how much of it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn provisioned_all(&self) -> Result<Vec<(String, String, u32)>, ControlError> {
        let mut all = Vec::new();
        self.walk::<ProvisionedRecord>("provisioned/", |key, record| {
            if let [_, name, qualifier] = key.split('/').collect::<Vec<_>>()[..] {
                all.push((name.to_owned(), qualifier.to_owned(), record.requested));
            }
        })
        .await?;
        Ok(all)
    }

    async fn account_guard(&self) -> Result<Option<Revision>, ControlError> {
        Ok(self.store.get(ACCOUNT).await?.map(|entry| entry.revision))
    }

    /// An alias or a published version, and its function.
    async fn provisionable(
        &self,
        name: &str,
        qualifier: &str,
    ) -> Result<(Found<FunctionRecord>, Qualified), ControlError> {
        if qualifier == LATEST {
            let text = "The function resource provided must be an alias or a published version.";
            return Err(ControlError::invalid(text));
        }
        let missing = || self.qualifier_missing(name, qualifier);
        let function = self.find_function(name).await?.ok_or_else(missing)?;
        let qualified = self.find_qualified(name, qualifier).await?.ok_or_else(missing)?;
        Ok((function, qualified))
    }

    async fn not_behind_a_provisioned_alias(
        &self,
        name: &str,
        version: &str,
        held: &Held,
    ) -> Result<(), ControlError> {
        let mut pointed = false;
        self.walk::<AliasRecord>(&format!("alias/{name}/"), |_, alias| {
            let key = (name.to_owned(), alias.name);
            pointed |= alias.version == version && held.provisioned.contains_key(&key);
        })
        .await?;
        if pointed {
            let text = "Version is pointed by a Provisioned Concurrency alias";
            return Err(ControlError::conflict(text));
        }
        Ok(())
    }

    /// `held` is without what this configuration held before.
    fn check_room(
        &self,
        function: &FunctionRecord,
        wanted: u32,
        held: &Held,
    ) -> Result<(), ControlError> {
        if let Some(reserved) = function.reserved_concurrency {
            if held.provisioned_of(&function.name).saturating_add(wanted) > reserved {
                let text = "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function";
                return Err(ControlError::invalid(text));
            }
            return Ok(());
        }
        let unreserved = held.unreserved(self.settings.account_concurrency);
        let Some(left) = unreserved.checked_sub(wanted) else {
            let text = format!(
                "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{unreserved}]."
            );
            return Err(ControlError::invalid(text));
        };
        let least = MIN_UNRESERVED.min(self.settings.account_concurrency);
        if left < least {
            let text = format!(
                "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [{least}]."
            );
            return Err(ControlError::invalid(text));
        }
        Ok(())
    }

    fn show_provisioned(&self, name: &str, qualifier: &str, record: &ProvisionedRecord) -> Value {
        let state = self.hooks.provisioned(name, qualifier);
        let ready = state.available >= record.requested;
        json!({
            "RequestedProvisionedConcurrentExecutions": record.requested,
            "AllocatedProvisionedConcurrentExecutions": state.allocated,
            "AvailableProvisionedConcurrentExecutions": state.available,
            "Status": if ready { "READY" } else { "IN_PROGRESS" },
            "LastModified": record.last_modified,
        })
    }
}

#[cfg(test)]
mod tests;

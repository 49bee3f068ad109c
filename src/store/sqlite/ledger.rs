//! What each request does to the tables, within the writer's transaction. Checks come first: a request that is refused
//! has written nothing, so that others in the same transaction need no way back from it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use super::{body, bytes_crc, entry_crc, failure, from_sql, to_sql};
use crate::pool::unix_ms;
use crate::store::{Batch, Lease, Message, Revision, StoreError};

/// Numbers that only grow. Those of a transaction that was rolled back are lost, and none is given twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub revision: u64,
    pub message: u64,
    pub lease: u64,
}

/// One transaction's view.
#[derive(Debug)]
pub(super) struct Ledger<'a> {
    pub connection: &'a Connection,
    pub database: &'a Path,
    pub counters: &'a mut Counters,
}

fn after(delay: Duration) -> i64 {
    let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    to_sql(unix_ms(SystemTime::now()).saturating_add(delay))
}

impl Ledger<'_> {
    fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Result<(), StoreError> {
        let run = || self.connection.prepare_cached(sql)?.execute(params);
        run().map(drop).map_err(|e| failure(self.database, "write", e))
    }

    fn find<T: rusqlite::types::FromSql>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
    ) -> Result<Option<T>, StoreError> {
        let run =
            || self.connection.prepare_cached(sql)?.query_row(params, |row| row.get(0)).optional();
        run().map_err(|e| failure(self.database, "read", e))
    }

    fn held(&self, lease: &Lease) -> Result<(), StoreError> {
        let sql = "SELECT 1 FROM messages m JOIN queues q ON q.id = m.queue \
                   WHERE m.id = ?1 AND m.lease = ?2 AND m.dead = 0 AND q.name = ?3";
        let params = params![to_sql(lease.id), to_sql(lease.lease), lease.queue];
        match self.find::<i64>(sql, params)? {
            Some(_) => Ok(()),
            None => Err(StoreError::LeaseLost { queue: lease.queue.clone(), id: lease.id }),
        }
    }

    pub fn commit(&mut self, batch: &Batch) -> Result<Revision, StoreError> {
        for (key, expected) in &batch.expect {
            let sql = "SELECT revision FROM entries WHERE key = ?1";
            if self.find::<i64>(sql, [key])? != expected.map(to_sql) {
                return Err(StoreError::Conflict { key: key.clone() });
            }
        }
        let retried = batch.retry.iter().map(|r| &r.0);
        for lease in batch.acknowledge.iter().chain(retried).chain(&batch.bury) {
            self.held(lease)?;
        }
        self.counters.revision += 1;
        let revision = self.counters.revision;
        for key in &batch.delete {
            self.execute("DELETE FROM entries WHERE key = ?1", [key])?;
        }
        for (key, value) in &batch.put {
            let sql = "INSERT INTO entries (key, value, revision, crc) VALUES (?1, ?2, ?3, ?4) \
                       ON CONFLICT (key) DO UPDATE SET value = ?2, revision = ?3, crc = ?4";
            let crc = entry_crc(key, value, revision);
            self.execute(sql, params![key, &value[..], to_sql(revision), crc])?;
        }
        for (queue, body, delay) in &batch.send {
            self.send(queue, body, *delay)?;
        }
        for lease in &batch.acknowledge {
            self.execute("DELETE FROM messages WHERE id = ?1", [to_sql(lease.id)])?;
            self.execute("DELETE FROM bodies WHERE id = ?1", [to_sql(lease.id)])?;
        }
        for (lease, delay, body) in &batch.retry {
            let sql = "UPDATE messages SET lease = NULL, due_ms = ?2 WHERE id = ?1";
            self.execute(sql, [to_sql(lease.id), after(*delay)])?;
            if let Some(body) = body {
                let sql = "UPDATE bodies SET body = ?2, crc = ?3 WHERE id = ?1";
                self.execute(sql, params![to_sql(lease.id), &body[..], bytes_crc(body)])?;
            }
        }
        for lease in &batch.bury {
            let sql = "UPDATE messages SET dead = 1 WHERE id = ?1 AND dead = 0";
            self.execute(sql, [to_sql(lease.id)])?;
        }
        Ok(revision)
    }

    fn send(&mut self, queue: &str, body: &Bytes, delay: Duration) -> Result<(), StoreError> {
        self.counters.message += 1;
        let id = to_sql(self.counters.message);
        self.execute("INSERT INTO queues (name) VALUES (?1) ON CONFLICT DO NOTHING", [queue])?;
        let sql = "INSERT INTO messages (id, queue, sent_ms, due_ms) \
                   SELECT ?1, id, ?3, ?4 FROM queues WHERE name = ?2";
        self.execute(sql, params![id, queue, after(Duration::ZERO), after(delay)])?;
        let sql = "INSERT INTO bodies (id, body, crc) VALUES (?1, ?2, ?3)";
        self.execute(sql, params![id, &body[..], bytes_crc(body)])
    }

    /// All messages of one call have the same token; with the message's id it is one lease's.
    pub fn lease(
        &mut self,
        queue: &str,
        most: usize,
        hold: Duration,
    ) -> Result<Vec<Message>, StoreError> {
        let messages = self.due(queue, most)?;
        if messages.is_empty() {
            return Ok(messages);
        }
        self.counters.lease += 1;
        let token = self.counters.lease;
        for message in &messages {
            let sql = "UPDATE messages SET lease = ?2, due_ms = ?3, receives = receives + 1 WHERE id = ?1";
            self.execute(sql, [to_sql(message.id), to_sql(token), after(hold)])?;
        }
        let leased = |message| Message { lease: token, ..message };
        Ok(messages.into_iter().map(leased).collect())
    }

    /// Messages that are due, as they will be when leased, but for the token.
    fn due(&self, queue: &str, most: usize) -> Result<Vec<Message>, StoreError> {
        let fail = |e| failure(self.database, "read", e);
        let sql = "SELECT m.id, b.body, b.crc, m.sent_ms, m.receives \
                   FROM messages m LEFT JOIN bodies b ON b.id = m.id \
                   WHERE m.queue = (SELECT id FROM queues WHERE name = ?1) AND m.dead = 0 AND m.due_ms <= ?2 \
                   ORDER BY m.due_ms, m.id LIMIT ?3";
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let mut statement = self.connection.prepare_cached(sql).map_err(fail)?;
        let mut rows =
            statement.query(params![queue, after(Duration::ZERO), most]).map_err(fail)?;
        let mut messages = Vec::new();
        while let Some(row) = rows.next().map_err(fail)? {
            let (id, body) = body(row, 0, 1, self.database)?;
            messages.push(Message {
                queue: queue.into(),
                id,
                body,
                sent_ms: from_sql(row, 3).map_err(fail)?,
                receives: row.get::<_, u32>(4).map_err(fail)?.saturating_add(1),
                lease: 0,
            });
        }
        Ok(messages)
    }

    /// The first lease that is lost is the error; the others are held on all the same.
    pub fn extend(&mut self, leases: &[Lease], hold: Duration) -> Result<(), StoreError> {
        let mut result = Ok(());
        for lease in leases {
            match self.held(lease) {
                Ok(()) => {
                    let sql = "UPDATE messages SET due_ms = ?2 WHERE id = ?1";
                    self.execute(sql, [to_sql(lease.id), after(hold)])?;
                }
                Err(lost @ StoreError::LeaseLost { .. }) => result = result.and(Err(lost)),
                Err(other) => return Err(other),
            }
        }
        result
    }
}

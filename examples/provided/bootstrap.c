/*
 * A whole Lambda runtime in one static program: SQL over the rows of a JSON event.
 *
 * Event:  {"rows": [{"city": "Rome", "people": 2.8}, …], "sql": "select value->>'city' as city from rows"}
 * Result: [{"city": "Rome"}, …]
 *
 * SQLite reads the JSON (every element of `rows` is a `value` of the view `rows`), runs the query and
 * quotes the result; what is left is a small client of the Runtime API, over one keep-alive connection.
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define API "/2018-06-01/runtime/"

static void die(const char *what) {
    perror(what);
    exit(1);
}

/* ---------------------------------------------------------------- a buffer that grows */

struct text {
    char *bytes;
    size_t length, room;
};

static void append(struct text *text, const char *bytes, size_t count) {
    if (text->length + count + 1 > text->room) {
        text->room = 2 * (text->length + count + 1);
        text->bytes = realloc(text->bytes, text->room);
        if (!text->bytes) die("realloc");
    }
    memcpy(text->bytes + text->length, bytes, count);
    text->length += count;
    text->bytes[text->length] = 0;
}

static void append_text(struct text *text, const char *string) {
    append(text, string, strlen(string));
}

/* ---------------------------------------------------------------- the Runtime API */

static int api = -1;
static char host[128] = "localhost";

/* Connects to Kennel's Unix socket where there is one, else to the address that AWS's contract names. */
static void connect_to_api(void) {
    const char *path = getenv("KENNEL_RUNTIME_API_SOCKET");
    if (path && *path) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
        api = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (api < 0 || connect(api, (struct sockaddr *)&address, sizeof address)) die(path);
        return;
    }
    const char *name = getenv("AWS_LAMBDA_RUNTIME_API");
    char number[64];
    int port;
    if (!name || sscanf(name, "%63[0-9.]:%d", number, &port) != 2) {
        fputs("AWS_LAMBDA_RUNTIME_API is not ADDRESS:PORT\n", stderr);
        exit(1);
    }
    snprintf(host, sizeof host, "%s", name);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, number, &address.sin_addr) != 1) die(name);
    api = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (api < 0 || connect(api, (struct sockaddr *)&address, sizeof address)) die(name);
    setsockopt(api, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

static void send_all(const char *bytes, size_t count) {
    while (count) {
        ssize_t sent = send(api, bytes, count, MSG_NOSIGNAL);
        if (sent < 0) die("send");
        bytes += sent;
        count -= sent;
    }
}

/* Value of a header in a head of "\r\n"-ended lines, or "". */
static void header(const char *head, const char *name, char *value, size_t room) {
    size_t length = strlen(name);
    value[0] = 0;
    for (const char *line = head; (line = strstr(line, "\r\n")); ) {
        line += 2;
        if (strncasecmp(line, name, length) || line[length] != ':') continue;
        line += length + 1;
        line += strspn(line, " \t");
        snprintf(value, room, "%.*s", (int)strcspn(line, "\r"), line);
        return;
    }
}

/* Reads one reply: `head` up to and including the empty line, `body` by its Content-Length. */
static int receive(struct text *head, struct text *body) {
    char chunk[16384], value[32];
    char *end = NULL;
    head->length = body->length = 0;
    while (!end) {
        ssize_t got = recv(api, chunk, sizeof chunk, 0);
        if (got <= 0) exit(0); /* the runtime API is gone: so are we */
        append(head, chunk, got);
        end = memmem(head->bytes, head->length, "\r\n\r\n", 4);
    }
    size_t head_length = end + 4 - head->bytes;
    append(body, head->bytes + head_length, head->length - head_length);
    head->bytes[head_length] = 0;
    header(head->bytes, "Content-Length", value, sizeof value);
    size_t expected = strtoull(value, NULL, 10);
    while (body->length < expected) {
        ssize_t got = recv(api, chunk, sizeof chunk, 0);
        if (got <= 0) die("recv");
        append(body, chunk, got);
    }
    return atoi(head->bytes + strcspn(head->bytes, " "));
}

static int post(const char *id, const char *what, const char *body, size_t length, struct text *head, struct text *reply) {
    char request[512];
    int count = snprintf(request, sizeof request,
                         "POST " API "invocation/%s/%s HTTP/1.1\r\nHost: %s\r\n"
                         "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                         id, what, host, length);
    send_all(request, count);
    send_all(body, length);
    return receive(head, reply);
}

/* ---------------------------------------------------------------- the handler */

static sqlite3 *db;
static sqlite3_stmt *set_event, *get_sql, *quote;

static void prepare(const char *sql, sqlite3_stmt **statement) {
    if (sqlite3_prepare_v2(db, sql, -1, statement, NULL) != SQLITE_OK) {
        fprintf(stderr, "%s: %s\n", sql, sqlite3_errmsg(db));
        exit(1);
    }
}

static void open_database(void) {
    const char *setup =
        "create temp table event (json text);"
        "create temp view rows as select item.key as number, item.value as value"
        " from event, json_each(event.json, '$.rows') as item;";
    if (sqlite3_open(":memory:", &db) || sqlite3_exec(db, setup, NULL, NULL, NULL)) {
        fprintf(stderr, "sqlite: %s\n", sqlite3_errmsg(db));
        exit(1);
    }
    prepare("insert into event values (?)", &set_event);
    prepare("select json->>'$.sql' from event", &get_sql);
    prepare("select json_quote(?)", &quote);
}

/* Appends the JSON of the value just bound to `quote`. */
static int append_quoted(struct text *out) {
    int failed = sqlite3_step(quote) != SQLITE_ROW;
    if (!failed) append_text(out, (const char *)sqlite3_column_text(quote, 0));
    sqlite3_reset(quote);
    return failed;
}

/* Puts the query's result, or the message of an error, into `out`; tells whether it failed. */
static int handle(const struct text *event, struct text *out) {
    sqlite3_stmt *query = NULL;
    const char *problem = NULL;
    out->length = 0;
    sqlite3_exec(db, "delete from event", NULL, NULL, NULL);
    sqlite3_bind_text(set_event, 1, event->bytes, event->length, SQLITE_STATIC);
    sqlite3_step(set_event);
    sqlite3_reset(set_event);
    if (sqlite3_step(get_sql) != SQLITE_ROW) {
        problem = sqlite3_errmsg(db);
    } else if (sqlite3_column_type(get_sql, 0) != SQLITE_TEXT) {
        problem = "the event has no sql";
    } else if (sqlite3_prepare_v2(db, (const char *)sqlite3_column_text(get_sql, 0), -1, &query, NULL)) {
        problem = sqlite3_errmsg(db);
    } else if (!query || !sqlite3_stmt_readonly(query)) {
        problem = "the sql is not a query";
    } else {
        int status;
        append_text(out, "[");
        while ((status = sqlite3_step(query)) == SQLITE_ROW) {
            append_text(out, out->length > 1 ? ",{" : "{");
            for (int column = 0; column < sqlite3_column_count(query) && !problem; column++) {
                if (column) append_text(out, ",");
                sqlite3_bind_text(quote, 1, sqlite3_column_name(query, column), -1, SQLITE_TRANSIENT);
                if (append_quoted(out)) problem = "a name is no JSON";
                append_text(out, ":");
                sqlite3_bind_value(quote, 1, sqlite3_column_value(query, column));
                if (append_quoted(out)) problem = "JSON cannot hold BLOB values";
            }
            append_text(out, "}");
            if (problem) break;
        }
        append_text(out, "]");
        if (!problem && status != SQLITE_DONE) problem = sqlite3_errmsg(db);
    }
    if (problem) {
        out->length = 0;
        append_text(out, problem);
    }
    sqlite3_finalize(query);
    sqlite3_reset(get_sql);
    return problem != NULL;
}

static void post_error(const char *id, const char *type, const char *message, struct text *head, struct text *reply) {
    struct text body = {0};
    append_text(&body, "{\"errorMessage\":");
    sqlite3_bind_text(quote, 1, message, -1, SQLITE_TRANSIENT);
    if (append_quoted(&body)) append_text(&body, "\"\"");
    append_text(&body, ",\"errorType\":\"");
    append_text(&body, type);
    append_text(&body, "\"}");
    post(id, "error", body.bytes, body.length, head, reply);
    free(body.bytes);
}

int main(void) {
    struct text head = {0}, event = {0}, out = {0}, reply = {0};
    char request[256], id[64];
    open_database();
    connect_to_api();
    snprintf(request, sizeof request, "GET " API "invocation/next HTTP/1.1\r\nHost: %s\r\n\r\n", host);
    for (;;) {
        send_all(request, strlen(request));
        if (receive(&head, &event) != 200) {
            fprintf(stderr, "no event: %s\n", head.bytes);
            return 1;
        }
        header(head.bytes, "Lambda-Runtime-Aws-Request-Id", id, sizeof id);
        if (handle(&event, &out))
            post_error(id, "SqlError", out.bytes, &head, &reply);
        else if (post(id, "response", out.bytes, out.length, &head, &reply) == 413)
            post_error(id, "Function.ResponseSizeTooLarge", "the result is too large", &head, &reply);
    }
}

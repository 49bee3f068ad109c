"""AWS's set-up of the root logger, done when the handler first imports `logging`."""
import sys

import _kennel
from _kennel import variable

RECORD_FIELDS = set("""name msg args levelname levelno pathname filename module exc_info exc_text stack_info lineno
    funcName created msecs relativeCreated thread threadName processName process aws_request_id tenant_id
    _frame_type""".split())


class LogSink(object):
    """Where log records go: standard output, whatever it is at the time."""

    def log(self, message, frame_type=None):
        if str is bytes and not isinstance(message, str):
            message = message.encode("utf-8")
        sys.stdout.write(message)


def set_up(logging):
    import time

    class LambdaLoggerHandler(logging.Handler):
        def __init__(self, log_sink):
            logging.Handler.__init__(self)
            self.log_sink = log_sink

        def emit(self, record):
            self.log_sink.log(self.format(record))

    class LambdaLoggerFilter(logging.Filter):
        def filter(self, record):
            record.aws_request_id, record.tenant_id = _kennel.aws_request_id or "", _kennel.tenant_id
            return True

    class JsonFormatter(logging.Formatter):
        def format(self, record):
            return json_line(logging, self, record)

    logging.Formatter.converter = time.gmtime
    handler = LambdaLoggerHandler(LogSink())
    if variable("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON":
        handler.setFormatter(JsonFormatter(None, "%Y-%m-%dT%H:%M:%SZ"))
    else:
        handler.setFormatter(logging.Formatter(
            "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n", "%Y-%m-%dT%H:%M:%S"))
    handler.addFilter(LambdaLoggerFilter())
    root = logging.getLogger()
    level = variable("AWS_LAMBDA_LOG_LEVEL", "").upper()
    level = {"TRACE": "DEBUG", "FATAL": "CRITICAL"}.get(level, level)
    if level in (logging._levelNames if str is bytes else logging._nameToLevel):
        root.setLevel(level)
    root.addHandler(handler)


def json_line(logging, formatter, record):
    """Gives a record as one JSON object on a line, with the fields given as `extra` beside AWS's own."""
    import json
    from _kennel.seldom import text_of
    # Levels of one's own are told by the named one below them.
    record.levelno = min(50, max(0, record.levelno)) // 10 * 10
    record.levelname = logging.getLevelName(record.levelno)
    failure = record.exc_info or None
    fields = [
        ("timestamp", formatter.formatTime(record, formatter.datefmt)),
        ("level", record.levelname),
        ("message", record.msg if isinstance(record.msg, dict) and not record.args else record.getMessage()),
        ("logger", record.name),
    ]
    if failure:
        import traceback
        fields += [
            ("stackTrace", traceback.format_tb(failure[2])),
            ("errorType", failure[0].__name__ if failure[0] else None),
            ("errorMessage", text_of(failure[1])),
        ]
    fields.append(("requestId", getattr(record, "aws_request_id", None)))
    if failure:
        fields.append(("location", "%s:%s:%s" % (record.pathname, record.funcName, record.lineno)))
    fields.append(("tenantId", getattr(record, "tenant_id", None)))
    known = set(name for name, _ in fields) | RECORD_FIELDS
    fields += [(name, value) for name, value in record.__dict__.items() if name not in known]
    # Python 2 has text of both kinds, which only escapes bring together.
    encoder = json.JSONEncoder(ensure_ascii=str is bytes, default=text_of)

    def encode(value):
        try:
            return encoder.encode(value)
        except UnicodeDecodeError:  # bytes of Python 2 in no known encoding
            return encoder.encode(value.decode("utf-8", "replace") if isinstance(value, bytes) else repr(value))

    return "{%s}\n" % ", ".join("%s: %s" % (encode(name), encode(value)) for name, value in fields if value is not None)

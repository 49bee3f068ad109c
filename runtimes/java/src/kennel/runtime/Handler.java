package kennel.runtime;

/** One loaded handler, whatever its form. */
abstract class Handler {
    /** Runs the handler on one event; what it throws is the function's error. */
    abstract Output invoke(Invocation invocation) throws Throwable;
}

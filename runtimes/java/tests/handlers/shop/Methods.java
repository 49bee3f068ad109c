package shop;

import com.amazonaws.services.lambda.runtime.Context;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** Handlers named as {@code shop.Methods::name}. */
public class Methods {
    private int calls;

    public static String fixed() {
        return "fixed";
    }

    public String text(String event) {
        return "<" + event + ">";
    }

    public int number(int event) {
        return event + 1;
    }

    public static double real(double event) {
        return event / 2;
    }

    public boolean not(boolean event) {
        return !event;
    }

    public List<Integer> numbers(List<Integer> event) {
        List<Integer> doubled = new ArrayList<Integer>();
        for (Integer number : event) {
            doubled.add(number * 2);
        }
        return doubled;
    }

    public Object any(Object event) {
        return event;
    }

    public String kinds(Map<String, Object> event) {
        Map<String, String> kinds = new TreeMap<String, String>();
        for (Map.Entry<String, Object> entry : event.entrySet()) {
            kinds.put(entry.getKey(), entry.getValue() == null ? "null" : entry.getValue().getClass().getSimpleName());
        }
        return kinds.toString();
    }

    public Shapes.Order order(Shapes.Order order) {
        order.setQuantity(order.getQuantity() + 1);
        return order;
    }

    public int total(List<Shapes.Order> orders) {
        int total = 0;
        for (Shapes.Order order : orders) {
            total += order.getQuantity();
        }
        return total;
    }

    public Map<String, Integer> byName(Map<String, Shapes.Order> orders, Context context) {
        Map<String, Integer> result = new LinkedHashMap<String, Integer>();
        for (Map.Entry<String, Shapes.Order> entry : orders.entrySet()) {
            result.put(entry.getKey(), entry.getValue().getQuantity());
        }
        return result;
    }

    public String page(Shapes.Page<Shapes.Order> page) {
        return page.getItems().get(0).getName() + page.getItems().size();
    }

    public Shapes.Everything everything(Shapes.Everything event) {
        return event;
    }

    public Shapes.Naming naming(Shapes.Naming event) {
        return event;
    }

    public BigDecimal exact(BigDecimal event) {
        return event;
    }

    public byte[] bytes(byte[] event) {
        return Arrays.copyOf(event, event.length - 1);
    }

    public void nothing(String event) {
        System.out.println("got " + event);
    }

    public String onlyContext(Context context) {
        return context.getFunctionName();
    }

    public int count() {
        return ++calls;
    }

    public void streams(InputStream in, OutputStream out) throws IOException {
        out.write('[');
        for (int b; (b = in.read()) >= 0;) {
            out.write(b);
        }
        out.write(']');
    }

    public void streamsWithContext(InputStream in, OutputStream out, Context context) throws IOException {
        out.write(context.getAwsRequestId().getBytes("UTF-8"));
    }

    public void onlyOut(OutputStream out, Context context) throws IOException {
        out.write("out".getBytes("UTF-8"));
    }

    public void onlyIn(InputStream in) throws IOException {
        System.out.println("read " + in.read());
    }

    public String overloaded(String event) {
        return "one";
    }

    public String overloaded(String event, Context context) {
        return "with context";
    }

    public String overloaded(String event, Integer other) {
        return "not a handler";
    }

    public String overloaded() {
        return "none";
    }

    String hidden(String event) {
        return event;
    }

    public void throwing(String event) {
        throw new Shapes.Refused("no " + event, new IllegalStateException("the reason"));
    }

    public void silent() throws Exception {
        throw new Exception();
    }

    public int deep(int n) {
        return deep(n + 1) + 1;
    }

    public int memory() {
        List<long[]> all = new ArrayList<long[]>();
        for (;;) {
            all.add(new long[1 << 20]);
        }
    }

    public void exit(int status) {
        System.out.print("leaving");
        System.exit(status);
    }

    public Object cycle() {
        List<Object> list = new ArrayList<Object>();
        list.add(list);
        return list;
    }

    public Object self() {
        return new Shapes.Loop();
    }

    public Object mutual() {
        return new Shapes.Pair();
    }

    public String large(int characters) {
        char[] text = new char[characters];
        Arrays.fill(text, 'x');
        return new String(text);
    }

    public Map<String, String> kennelVariables() {
        Map<String, String> found = new TreeMap<String, String>();
        for (Map.Entry<String, String> entry : System.getenv().entrySet()) {
            if (entry.getKey().startsWith("KENNEL")) {
                found.put(entry.getKey(), entry.getValue());
            }
        }
        found.put("MARK", System.getenv("MARK"));
        return found;
    }

    public Map<String, Object> process() throws Exception {
        Map<String, Object> result = new HashMap<String, Object>();
        result.put("trace", System.getProperty("com.amazonaws.xray.traceHeader"));
        result.put("cwd", System.getProperty("user.dir"));
        result.put("heap", Runtime.getRuntime().maxMemory() >> 20);
        result.put("stdin", System.in.read());
        result.put("loader", Thread.currentThread().getContextClassLoader() == Methods.class.getClassLoader());
        result.put("resource", Methods.class.getResource("/shop/Methods.class") != null);
        result.put("encoding", new String("\u00e4".getBytes(), "UTF-8"));
        return result;
    }

    public void output(String event) {
        System.out.print("out " + event);
        System.err.print(" err " + event);
        System.out.write('!');
    }

    public String interrupt() {
        boolean before = Thread.currentThread().isInterrupted();
        Thread.currentThread().interrupt();
        return before ? "interrupted" : "clean";
    }
}

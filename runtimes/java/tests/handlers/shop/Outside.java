package shop;

import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.HashMap;
import java.util.Map;

/** What a handler and the programs that it starts find of the process. */
public class Outside {
    public Map<String, Object> environment() throws IOException {
        ProcessBuilder edited = new ProcessBuilder("env", "-0");
        edited.environment().put("ADDED", "1");
        Map<String, Object> result = new HashMap<String, Object>();
        result.put("own", System.getenv());
        result.put("child", variables(new ProcessBuilder("env", "-0")));
        result.put("edited", variables(edited));
        result.put("one by one", System.getenv("MARK") + System.getenv("BOOT_ONLY") + System.getenv("KENNEL_PREBOOT"));
        return result;
    }

    public Map<String, Object> folder() throws IOException {
        Map<String, Object> result = new HashMap<String, Object>();
        result.put("near", new File("shop/Outside.class").exists());
        result.put("nio", Files.exists(Paths.get("shop/Outside.class")));
        result.put("absolute", new File("x").getAbsolutePath());
        result.put("user.dir", System.getProperty("user.dir"));
        result.put("child", output(new ProcessBuilder("pwd", "-P")).trim());
        return result;
    }

    private static Map<String, String> variables(ProcessBuilder program) throws IOException {
        Map<String, String> result = new HashMap<String, String>();
        for (String line : output(program).split("\0")) {
            int end = line.indexOf('=');
            result.put(line.substring(0, end), line.substring(end + 1));
        }
        return result;
    }

    private static String output(ProcessBuilder program) throws IOException {
        ByteArrayOutputStream all = new ByteArrayOutputStream();
        InputStream in = program.start().getInputStream();
        for (int b; (b = in.read()) >= 0;) {
            all.write(b);
        }
        return all.toString("UTF-8");
    }
}

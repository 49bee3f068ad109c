package sample;

import java.util.List;

/** An event as a class: fields, getters and setters. In the jar, beside its handler. */
public class Order {
    public List<String> names;
    private int count;

    public int getCount() {
        return count;
    }

    public void setCount(int count) {
        this.count = count;
    }
}

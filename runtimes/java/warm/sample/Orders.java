package sample;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;

/** From a class to a class, and by its method. In a jar. */
public class Orders implements RequestHandler<Order, Order> {
    @Override
    public Order handleRequest(Order order, Context context) {
        return order;
    }

    public String text(String text) {
        return text;
    }
}

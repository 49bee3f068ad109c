package example;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.util.ArrayList;
import java.util.List;
import org.commonmark.node.AbstractVisitor;
import org.commonmark.node.Heading;
import org.commonmark.node.Node;
import org.commonmark.node.Text;
import org.commonmark.parser.Parser;
import org.commonmark.renderer.html.HtmlRenderer;

/** Renders Markdown as HTML that is safe to show, and lists its headings. */
public class Markdown implements RequestHandler<Markdown.Page, Markdown.Rendered> {
    private final Parser parser = Parser.builder().build();
    private final HtmlRenderer renderer = HtmlRenderer.builder().escapeHtml(true).sanitizeUrls(true).build();

    public static class Page {
        private String text;

        public String getText() {
            return text;
        }

        public void setText(String text) {
            this.text = text;
        }
    }

    public static class Rendered {
        private final String html;
        private final List<String> headings;

        Rendered(String html, List<String> headings) {
            this.html = html;
            this.headings = headings;
        }

        public String getHtml() {
            return html;
        }

        public List<String> getHeadings() {
            return headings;
        }
    }

    @Override
    public Rendered handleRequest(Page page, Context context) {
        if (page.getText() == null) {
            throw new IllegalArgumentException("the event has no text");
        }
        Node document = parser.parse(page.getText());
        List<String> headings = new ArrayList<>();
        document.accept(new AbstractVisitor() {
            @Override
            public void visit(Heading heading) {
                StringBuilder words = new StringBuilder();
                heading.accept(new AbstractVisitor() {
                    @Override
                    public void visit(Heading inside) {
                        visitChildren(inside);
                    }

                    @Override
                    public void visit(Text text) {
                        words.append(text.getLiteral());
                    }
                });
                headings.add(words.toString());
            }
        });
        context.getLogger().log("rendered " + page.getText().length() + " characters");
        return new Rendered(renderer.render(document), headings);
    }
}

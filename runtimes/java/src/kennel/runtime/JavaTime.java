package kennel.runtime;

import java.math.BigDecimal;
import java.time.DateTimeException;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.time.MonthDay;
import java.time.OffsetDateTime;
import java.time.OffsetTime;
import java.time.Period;
import java.time.Year;
import java.time.YearMonth;
import java.time.ZoneId;
import java.time.ZoneOffset;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.util.Date;
import java.util.List;

/**
 * java.time in AWS's way: points in time and durations are decimal seconds, dates and times of day are arrays of
 * numbers; both are read from ISO 8601 text as well. In a class of its own: java.time is slow to load.
 */
final class JavaTime {
    private JavaTime() {
    }

    static Object read(Object value, Class<?> type) {
        if (type.isEnum() || "".equals(value)) {
            return type.isEnum() ? JsonExtras.NONE : null;
        }
        try {
            if (value instanceof String) {
                return text(((String) value).trim(), type);
            }
            if (value instanceof JsonNumber) {
                return number((JsonNumber) value, type);
            }
            if (value instanceof List) {
                return parts((List<?>) value, type);
            }
        } catch (DateTimeException e) {
            throw new JsonException("cannot read " + value + " as " + type.getName(), e);
        }
        throw JsonBinder.mismatch(value, type);
    }

    private static Object text(String text, Class<?> type) {
        if (type == Instant.class) {
            return instant(text);
        }
        if (type == LocalDate.class) {
            return text.length() > 10 && text.charAt(10) == 'T'
                    ? LocalDate.parse(text.substring(0, 10)) : LocalDate.parse(text);
        }
        if (type == LocalDateTime.class) {
            return LocalDateTime.parse(text.endsWith("Z") ? text.substring(0, text.length() - 1) : text);
        }
        if (type == LocalTime.class) {
            return LocalTime.parse(text);
        }
        if (type == OffsetDateTime.class) {
            return OffsetDateTime.ofInstant(instant(text), ZoneOffset.UTC);
        }
        if (type == ZonedDateTime.class) {
            return ZonedDateTime.parse(text).withZoneSameInstant(ZoneId.of("UTC"));
        }
        if (type == Duration.class) {
            return Duration.parse(text);
        }
        if (type == Period.class) {
            return Period.parse(text);
        }
        if (type == Year.class) {
            return Year.parse(text);
        }
        if (type == YearMonth.class) {
            return YearMonth.parse(text);
        }
        if (type == MonthDay.class) {
            return MonthDay.parse(text);
        }
        if (type == OffsetTime.class) {
            return OffsetTime.parse(text);
        }
        if (type == ZoneOffset.class) {
            return ZoneOffset.of(text);
        }
        if (type == ZoneId.class) {
            return ZoneId.of(text);
        }
        return JsonExtras.NONE;
    }

    private static Instant instant(String text) {
        return Instant.from(DateTimeFormatter.ISO_OFFSET_DATE_TIME.parse(withColon(text)));
    }

    /** {@code +0100} as {@code +01:00}. */
    private static String withColon(String text) {
        int sign = text.length() - 5;
        if (sign > 10 && (text.charAt(sign) == '+' || text.charAt(sign) == '-')) {
            return text.substring(0, sign + 3) + ":" + text.substring(sign + 3);
        }
        return text;
    }

    private static Object number(JsonNumber number, Class<?> type) {
        if (type == Year.class) {
            return Year.of((Integer) JsonBinder.convert(number, int.class));
        }
        if (type == LocalDate.class) {
            return LocalDate.ofEpochDay((Long) JsonBinder.convert(number, long.class));
        }
        BigDecimal seconds = number.decimal();
        if (Math.abs((long) seconds.precision() - seconds.scale()) > 20) {
            throw new DateTimeException("out of range");
        }
        BigDecimal whole = seconds.setScale(0, java.math.RoundingMode.FLOOR);
        long nanos = seconds.subtract(whole).movePointRight(9).longValue();
        if (type == Duration.class) {
            return Duration.ofSeconds(whole.longValue(), nanos);
        }
        Instant instant = Instant.ofEpochSecond(whole.longValue(), nanos);
        if (type == Instant.class) {
            return instant;
        }
        if (type == OffsetDateTime.class) {
            return OffsetDateTime.ofInstant(instant, ZoneOffset.UTC);
        }
        if (type == ZonedDateTime.class) {
            return ZonedDateTime.ofInstant(instant, ZoneId.of("UTC"));
        }
        throw JsonBinder.mismatch(number, type);
    }

    private static Object parts(List<?> list, Class<?> type) {
        int[] part = new int[7];
        int count = list.size();
        for (int i = 0; i < count && i < part.length; i++) {
            part[i] = (Integer) JsonBinder.convert(list.get(i), int.class);
        }
        if (type == LocalDate.class && count == 3) {
            return LocalDate.of(part[0], part[1], part[2]);
        }
        if (type == LocalTime.class && count >= 2 && count <= 4) {
            return LocalTime.of(part[0], part[1], part[2], part[3]);
        }
        if (type == LocalDateTime.class && count >= 5 && count <= 7) {
            return LocalDateTime.of(part[0], part[1], part[2], part[3], part[4], part[5], part[6]);
        }
        if (type == YearMonth.class && count == 2) {
            return YearMonth.of(part[0], part[1]);
        }
        if (count == 1) {
            return read(list.get(0), type);
        }
        throw JsonBinder.mismatch(list, type);
    }

    static void write(JsonWriter json, Object value) {
        if (value instanceof Instant) {
            seconds(json, ((Instant) value).getEpochSecond(), ((Instant) value).getNano());
        } else if (value instanceof Duration) {
            seconds(json, ((Duration) value).getSeconds(), ((Duration) value).getNano());
        } else if (value instanceof OffsetDateTime) {
            write(json, ((OffsetDateTime) value).toInstant());
        } else if (value instanceof ZonedDateTime) {
            write(json, ((ZonedDateTime) value).toInstant());
        } else if (value instanceof LocalDate) {
            LocalDate date = (LocalDate) value;
            numbers(json, 3, date.getYear(), date.getMonthValue(), date.getDayOfMonth());
        } else if (value instanceof LocalTime) {
            LocalTime time = (LocalTime) value;
            numbers(json, 2, time.getHour(), time.getMinute(), time.getSecond(), time.getNano());
        } else if (value instanceof LocalDateTime) {
            LocalDateTime time = (LocalDateTime) value;
            numbers(json, 5, time.getYear(), time.getMonthValue(), time.getDayOfMonth(), time.getHour(),
                    time.getMinute(), time.getSecond(), time.getNano());
        } else if (value instanceof YearMonth) {
            numbers(json, 2, ((YearMonth) value).getYear(), ((YearMonth) value).getMonthValue());
        } else if (value instanceof Year) {
            json.out.ascii(value.toString());
        } else {
            json.string(value.toString());
        }
    }

    private static void seconds(JsonWriter json, long seconds, int nanos) {
        json.out.ascii(BigDecimal.valueOf(seconds).add(BigDecimal.valueOf(nanos, 9)).toPlainString());
    }

    /** An array of numbers, without the zeros at the end beyond the first {@code least}. */
    private static void numbers(JsonWriter json, int least, int... numbers) {
        int count = numbers.length;
        while (count > least && numbers[count - 1] == 0) {
            count--;
        }
        json.out.write('[');
        for (int i = 0; i < count; i++) {
            if (i > 0) {
                json.out.write(',');
            }
            json.out.ascii(Integer.toString(numbers[i]));
        }
        json.out.write(']');
    }

    /** ISO 8601 text, with or without a time, as milliseconds; without a zone it is UTC. */
    static long epochMillis(String text) {
        try {
            if (text.length() == 10) {
                return LocalDate.parse(text).atStartOfDay(ZoneOffset.UTC).toInstant().toEpochMilli();
            }
            int time = text.indexOf('T');
            boolean zone = text.endsWith("Z") || text.indexOf('+', time) > 0 || text.indexOf('-', time) > 0;
            return zone ? instant(text).toEpochMilli()
                    : LocalDateTime.parse(text).toInstant(ZoneOffset.UTC).toEpochMilli();
        } catch (DateTimeException e) {
            throw new JsonException("cannot read a date from this text", e);
        }
    }

    static String text(Date date) {
        return DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ss.SSSXXXX").withZone(ZoneOffset.UTC)
                .format(Instant.ofEpochMilli(date.getTime()));
    }
}

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/** The job with Kafka Streams' processor API and three RocksDB stores, exactly once (v2). */
public final class Job {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final byte[] SEEN = {1};

    /** Emits each event once, in its turn. */
    private static final class RestoreOrder implements Processor<byte[], byte[], byte[], byte[]> {
        private ProcessorContext<byte[], byte[]> context;
        private KeyValueStore<byte[], byte[]> seen;
        private KeyValueStore<byte[], byte[]> lines;
        private KeyValueStore<byte[], byte[]> held;

        @Override
        public void init(ProcessorContext<byte[], byte[]> context) {
            this.context = context;
            seen = context.getStateStore("seen");
            lines = context.getStateStore("lines");
            held = context.getStateStore("held");
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            noteStart();
            byte[] id = record.headers().lastHeader("ce_id").value();
            if (seen.get(id) != null) {
                return;
            }
            seen.put(id, SEEN);
            byte[] key = record.key();
            // A line is the number that is next, and how many events are held.
            byte[] row = lines.get(key);
            ByteBuffer line = row == null ? ByteBuffer.allocate(12).putLong(0, 1) : ByteBuffer.wrap(row);
            long next = line.getLong(0);
            int waiting = line.getInt(8);
            long number = numberOf(record.value());
            if (number > next) {
                held.put(heldKey(key, number), pack(record));
                lines.put(key, line.putInt(8, waiting + 1).array());
                return;
            }
            context.forward(record);
            next = number + 1;
            while (waiting > 0) {
                byte[] packed = held.delete(heldKey(key, next));
                if (packed == null) {
                    break;
                }
                context.forward(unpack(packed, key, record.timestamp()));
                waiting--;
                next++;
            }
            lines.put(key, line.putLong(0, next).putInt(8, waiting).array());
        }
    }

    private static volatile boolean hasBegun = false;

    private static void noteStart() {
        if (!hasBegun) {
            hasBegun = true;
            try {
                Path file = Path.of(System.getenv("BENCH_DIRECTORY"), "started");
                Files.writeString(file, Long.toString(System.currentTimeMillis()));
            } catch (IOException error) {
                throw new IllegalStateException(error);
            }
        }
    }

    private static long numberOf(byte[] value) {
        try {
            return JSON.readTree(value).get("number").longValue();
        } catch (IOException error) {
            throw new IllegalArgumentException(error);
        }
    }

    private static byte[] heldKey(byte[] key, long number) {
        return ByteBuffer.allocate(key.length + 8).put(key).putLong(number).array();
    }

    /** Headers and value, each with its length. */
    private static byte[] pack(Record<byte[], byte[]> record) {
        List<byte[]> parts = new ArrayList<>();
        for (Header header : record.headers()) {
            parts.add(header.key().getBytes(StandardCharsets.UTF_8));
            parts.add(header.value());
        }
        parts.add(record.value());
        int size = parts.stream().mapToInt(part -> part.length + 4).sum();
        ByteBuffer packed = ByteBuffer.allocate(size);
        parts.forEach(part -> packed.putInt(part.length).put(part));
        return packed.array();
    }

    private static Record<byte[], byte[]> unpack(byte[] packed, byte[] key, long timestamp) {
        ByteBuffer buffer = ByteBuffer.wrap(packed);
        Headers headers = new RecordHeaders();
        byte[] part = take(buffer);
        while (buffer.hasRemaining()) {
            headers.add(new String(part, StandardCharsets.UTF_8), take(buffer));
            part = take(buffer);
        }
        return new Record<>(key, part, timestamp, headers);
    }

    private static byte[] take(ByteBuffer buffer) {
        byte[] part = new byte[buffer.getInt()];
        buffer.get(part);
        return part;
    }

    private static StoreBuilder<KeyValueStore<byte[], byte[]>> store(String name) {
        return Stores.keyValueStoreBuilder(
            Stores.persistentKeyValueStore(name), Serdes.ByteArray(), Serdes.ByteArray());
    }

    public static void main(String[] arguments) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, System.getenv("BENCH_APP"));
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, System.getenv("BENCH_BROKER"));
        settings.put(StreamsConfig.STATE_DIR_CONFIG, System.getenv("BENCH_DIRECTORY") + "/streams");
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, System.getenv("BENCH_COMMIT_MS"));
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        settings.put(
            StreamsConfig.consumerPrefix(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG),
            System.getenv("BENCH_SESSION_TIMEOUT_MS"));
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.HEARTBEAT_INTERVAL_MS_CONFIG), 2000);
        Topology topology = new Topology();
        topology.addSource(
            "source", new ByteArrayDeserializer(), new ByteArrayDeserializer(),
            System.getenv("BENCH_INPUT"));
        topology.addProcessor("order", RestoreOrder::new, "source");
        for (String name : List.of("seen", "lines", "held")) {
            topology.addStateStore(store(name), "order");
        }
        topology.addSink(
            "result", System.getenv("BENCH_OUTPUT"),
            new ByteArraySerializer(), new ByteArraySerializer(), "order");
        KafkaStreams streams = new KafkaStreams(topology, settings);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(6))));
        streams.start();
    }
}

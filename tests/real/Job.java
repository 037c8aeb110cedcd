// A job for tests/test_real_programs.sh: maps, compression (which allocates by malloc),
// direct buffers, threads, a child that fails.
// usage: java Job ROUNDS
import java.nio.ByteBuffer;
import java.util.*;
import java.util.concurrent.*;
import java.util.zip.*;

public class Job {
    public static void main(String[] arguments) throws Exception {
        int rounds = Integer.parseInt(arguments[0]);
        TreeMap<String, StringBuilder> words = new TreeMap<>();
        for (int i = 0; i < rounds; i++)
            words.computeIfAbsent("w" + i * 7919L % 1009, k -> new StringBuilder()).append(i).append(',');
        StringBuilder text = new StringBuilder();
        words.forEach((word, places) -> text.append(word).append(' ').append(places).append('\n'));
        System.out.println(words.size() + " " + text.length() + " " + text.toString().hashCode());

        byte[] bytes = text.toString().getBytes("UTF-8"), packed = new byte[bytes.length + 100];
        Deflater deflater = new Deflater();
        deflater.setInput(bytes);
        deflater.finish();
        int length = deflater.deflate(packed);
        deflater.end();
        Inflater inflater = new Inflater();
        inflater.setInput(packed, 0, length);
        byte[] back = new byte[bytes.length];
        System.out.println(inflater.inflate(back) == bytes.length && Arrays.equals(bytes, back));
        inflater.end();

        ExecutorService pool = Executors.newFixedThreadPool(4);
        List<Future<Long>> sums = new ArrayList<>();
        for (int n = 0; n < 4; n++) {
            final int thread = n;
            sums.add(pool.submit(() -> {
                long sum = 0;
                for (int i = 0; i < 200; i++) {
                    ByteBuffer buffer = ByteBuffer.allocateDirect(1 + (i * 37 + thread) % 3000);
                    buffer.put(0, (byte) i);
                    sum += buffer.capacity() + buffer.get(0);
                }
                return sum;
            }));
        }
        for (Future<Long> sum : sums)
            System.out.println(sum.get());
        pool.shutdown();
        System.out.println("child " + new ProcessBuilder("/bin/false").start().waitFor());
        System.exit(12);
    }
}

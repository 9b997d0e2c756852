// Tests of Arrow Flight SQL with Apache Arrow's Java library, which the JDBC driver
// `org.apache.arrow:flight-sql-jdbc-driver` contains. The requests are those of this driver: it
// prepares every statement, converts each value to the type of its parameter, and treats a
// statement without columns as an update.
//
// Arguments: URI, certificate or `-`, the server's token, and the name and password of a user.

import java.io.FileInputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.apache.arrow.flight.CallHeaders;
import org.apache.arrow.flight.CallOption;
import org.apache.arrow.flight.CloseSessionRequest;
import org.apache.arrow.flight.FlightCallHeaders;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.FlightInfo;
import org.apache.arrow.flight.FlightRuntimeException;
import org.apache.arrow.flight.FlightStatusCode;
import org.apache.arrow.flight.FlightStream;
import org.apache.arrow.flight.GetSessionOptionsRequest;
import org.apache.arrow.flight.HeaderCallOption;
import org.apache.arrow.flight.Location;
import org.apache.arrow.flight.NoOpSessionOptionValueVisitor;
import org.apache.arrow.flight.SessionOptionValueFactory;
import org.apache.arrow.flight.SetSessionOptionsRequest;
import org.apache.arrow.flight.SetSessionOptionsResult;
import org.apache.arrow.flight.auth2.BasicAuthCredentialWriter;
import org.apache.arrow.flight.auth2.BearerCredentialWriter;
import org.apache.arrow.flight.auth2.ClientBearerHeaderHandler;
import org.apache.arrow.flight.auth2.ClientIncomingAuthHeaderMiddleware;
import org.apache.arrow.flight.client.ClientCookieMiddleware;
import org.apache.arrow.flight.grpc.CredentialCallOption;
import org.apache.arrow.flight.sql.FlightSqlClient;
import org.apache.arrow.flight.sql.FlightSqlClient.PreparedStatement;
import org.apache.arrow.flight.sql.FlightSqlClient.Transaction;
import org.apache.arrow.flight.sql.impl.FlightSql.SqlInfo;
import org.apache.arrow.flight.sql.util.TableRef;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.memory.RootAllocator;
import org.apache.arrow.vector.BigIntVector;
import org.apache.arrow.vector.DateDayVector;
import org.apache.arrow.vector.DecimalVector;
import org.apache.arrow.vector.FieldVector;
import org.apache.arrow.vector.TimeMicroVector;
import org.apache.arrow.vector.TimeStampMicroVector;
import org.apache.arrow.vector.VarBinaryVector;
import org.apache.arrow.vector.VarCharVector;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.ipc.ReadChannel;
import org.apache.arrow.vector.ipc.message.MessageSerializer;
import org.apache.arrow.vector.types.pojo.Field;
import org.apache.arrow.vector.types.pojo.Schema;

public class FlightJava {
  private static final String ENDLESS =
      "WITH d(x) AS (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) "
          + "SELECT sum(a.x + p.x) AS n "
          + "FROM d a, d b, d c, d e, d f, d g, d h, d i, d j, d k, d l, d m, d o, d p";

  private static final BufferAllocator ALLOCATOR = new RootAllocator();

  /** A client with the options of its requests. */
  private static final class Client implements AutoCloseable {
    final FlightSqlClient sql;
    final List<CallOption> options = new ArrayList<>();

    Client(String uri, String certificate, CredentialCallOption credential) throws Exception {
      ClientIncomingAuthHeaderMiddleware.Factory logins =
          new ClientIncomingAuthHeaderMiddleware.Factory(new ClientBearerHeaderHandler());
      FlightClient.Builder builder = FlightClient.builder(ALLOCATOR, new Location(uri));
      builder.intercept(logins).intercept(new ClientCookieMiddleware.Factory());
      if (!certificate.equals("-")) {
        builder.trustedCertificates(new FileInputStream(certificate));
      }
      FlightClient client = builder.build();
      client.handshake(credential);
      // After a login with a password, the server returns the token of a session.
      CredentialCallOption session = logins.getCredentialCallOption();
      options.add(session == null ? credential : session);
      sql = new FlightSqlClient(client);
    }

    Client with(String header, String value) {
      CallHeaders headers = new FlightCallHeaders();
      headers.insert(header, value);
      options.add(new HeaderCallOption(headers));
      return this;
    }

    CallOption[] options() {
      return options.toArray(new CallOption[0]);
    }

    Prepared prepare(String text) {
      return new Prepared(this, sql.prepare(text, options()));
    }

    long update(String text) {
      try (Prepared prepared = prepare(text)) {
        check(List.of(), prepared.getResultSetSchema().getFields());
        return prepared.executeUpdate(options());
      }
    }

    List<String> query(String text) throws Exception {
      try (Prepared prepared = prepare(text)) {
        List<Field> described = prepared.getResultSetSchema().getFields();
        if (described.isEmpty()) {
          throw new AssertionError(text + " is described as an update");
        }
        return rows(prepared.execute(options()));
      }
    }

    /** Returns the rows of a result, each as a text. */
    List<String> rows(FlightInfo info) throws Exception {
      List<String> rows = new ArrayList<>();
      try (FlightStream stream = sql.getStream(info.getEndpoints().get(0).getTicket(), options())) {
        while (stream.next()) {
          VectorSchemaRoot root = stream.getRoot();
          for (int row = 0; row < root.getRowCount(); row++) {
            List<String> values = new ArrayList<>();
            for (FieldVector column : root.getFieldVectors()) {
              Object value = column.getObject(row);
              boolean isBytes = value instanceof byte[];
              values.add(isBytes ? new String((byte[]) value, StandardCharsets.UTF_8) : "" + value);
            }
            rows.add(String.join("|", values));
          }
        }
      }
      return rows;
    }

    @Override
    public void close() throws Exception {
      sql.close();
    }
  }

  /** A prepared statement, which is closed with the options of its client. */
  private record Prepared(Client client, PreparedStatement statement) implements AutoCloseable {
    Schema getResultSetSchema() {
      return statement.getResultSetSchema();
    }

    Schema getParameterSchema() {
      return statement.getParameterSchema();
    }

    void setParameters(VectorSchemaRoot parameters) {
      statement.setParameters(parameters);
    }

    FlightInfo execute(CallOption... options) {
      return statement.execute(options);
    }

    long executeUpdate(CallOption... options) {
      return statement.executeUpdate(options);
    }

    @Override
    public void close() {
      statement.close(client.options());
    }
  }

  private static void check(Object expected, Object found) {
    if (!expected.equals(found)) {
      throw new AssertionError("expected " + expected + ", found " + found);
    }
  }

  private static List<String> types(Schema schema) {
    List<String> types = new ArrayList<>();
    schema.getFields().forEach(field -> types.add(field.getType().toString()));
    return types;
  }

  /** Every type of column is read, and values of typed parameters are written. */
  private static void types(Client client) throws Exception {
    check(
        0L,
        client.update(
            "CREATE TABLE kinds (a BOOLEAN, b INT, c INT, d BIGINT, e REAL, f DOUBLE, "
                + "g DECIMAL(10, 2), h VARCHAR, i BYTEA, j DATE, k TIME, l TIMESTAMP, "
                + "m TIMESTAMP WITH TIME ZONE, n VARCHAR, o BIGINT[], p STRUCT<x INT>)"));
    check(
        2L,
        client.update(
            "INSERT INTO kinds VALUES (true, 1, 2, 3, 1.5, 2.5, 3.25, 'tea', CAST('ab' AS BYTEA), "
                + "DATE '2026-11-01', TIME '12:34:56', TIMESTAMP '2026-11-01 12:34:56', "
                + "TIMESTAMP WITH TIME ZONE '2026-11-01 12:34:56+00:00', "
                + "'n', [1, 2], {'x': 7}), "
                + "(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, "
                + "NULL, NULL, NULL)"));
    List<String> rows =
        client.query("SELECT a, b, c, d, e, f, g, h, i, l, o, p.x AS x FROM kinds ORDER BY d");
    check("true|1|2|3|1.5|2.5|3.25|tea|ab|2026-11-01T12:34:56|[1,2]|7", rows.get(0));
    check("null|null|null|null|null|null|null|null|null|null|null|null", rows.get(1));
    try (Prepared all = client.prepare("SELECT * FROM kinds")) {
      check(16, all.getResultSetSchema().getFields().size());
      check(2, client.rows(all.execute(client.options())).size());
    }
  }

  /** The parameters of changes have the types of their columns. */
  private static void parameters(Client client) throws Exception {
    String insert = "INSERT INTO kinds (d, g, h, j, l) VALUES (?, ?, ?, ?, ?)";
    try (Prepared prepared = client.prepare(insert)) {
      Schema schema = prepared.getParameterSchema();
      check(
          List.of(
              "Int(64, true)",
              "Decimal(10, 2, 128)",
              "Utf8",
              "Date(DAY)",
              "Timestamp(MICROSECOND, null)"),
          types(schema));
      try (VectorSchemaRoot root = VectorSchemaRoot.create(schema, ALLOCATOR)) {
        root.allocateNew();
        for (int row = 0; row < 2; row++) {
          ((BigIntVector) root.getVector(0)).setSafe(row, 10 + row);
          ((DecimalVector) root.getVector(1)).setSafe(row, 150);
          byte[] text = "it's".getBytes(StandardCharsets.UTF_8);
          ((VarCharVector) root.getVector(2)).setSafe(row, text);
          ((DateDayVector) root.getVector(3)).setSafe(row, 20_000);
          ((TimeStampMicroVector) root.getVector(4)).setNull(row);
        }
        root.setRowCount(2);
        prepared.setParameters(root);
        check(2L, prepared.executeUpdate(client.options()));
      }
    }
    String update = "UPDATE kinds SET h = ? WHERE d >= ? AND a IS NULL";
    try (Prepared prepared = client.prepare(update)) {
      check(List.of("Utf8", "Int(64, true)"), types(prepared.getParameterSchema()));
    }
    String query = "SELECT g, h, j, l FROM kinds WHERE d = ? AND h LIKE ?";
    try (Prepared prepared = client.prepare(query)) {
      Schema schema = prepared.getParameterSchema();
      check(List.of("Int(64, true)", "Utf8"), types(schema));
      try (VectorSchemaRoot root = VectorSchemaRoot.create(schema, ALLOCATOR)) {
        root.allocateNew();
        ((BigIntVector) root.getVector(0)).setSafe(0, 11);
        ((VarCharVector) root.getVector(1)).setSafe(0, "it%".getBytes(StandardCharsets.UTF_8));
        root.setRowCount(1);
        prepared.setParameters(root);
        List<String> rows = client.rows(prepared.execute(client.options()));
        check(List.of("1.50|it's|20000|null"), rows);
      }
    }
    try (Prepared prepared = client.prepare("SELECT d FROM kinds WHERE k < ?")) {
      Schema schema = prepared.getParameterSchema();
      check(List.of("Time(MICROSECOND, 64)"), types(schema));
      try (VectorSchemaRoot root = VectorSchemaRoot.create(schema, ALLOCATOR)) {
        root.allocateNew();
        ((TimeMicroVector) root.getVector(0)).setSafe(0, 13 * 3_600_000_000L);
        root.setRowCount(1);
        prepared.setParameters(root);
        check(List.of("3"), client.rows(prepared.execute(client.options())));
      }
    }
    check(2L, client.update("DELETE FROM kinds WHERE d >= 10"));
  }

  /** Statements other than SELECT that return rows are described with their columns. */
  private static void descriptions(Client client) throws Exception {
    for (String text :
        new String[] {
          "EXPLAIN SELECT d FROM kinds",
          "EXPLAIN COST SELECT d FROM kinds",
          "SHOW TABLES",
          "DESCRIBE kinds",
          "SUMMARIZE kinds",
          "INSERT INTO kinds (d) VALUES (4) RETURNING d",
          "VALUES (1)",
        }) {
      if (client.query(text).isEmpty()) {
        throw new AssertionError(text + " has no rows");
      }
    }
    check(1L, client.update("DELETE FROM kinds WHERE d = 4"));
  }

  /** Catalogs, schemas, tables, columns, keys and types, for patterns and for unknown names. */
  private static void metadata(Client client) throws Exception {
    FlightSqlClient sql = client.sql;
    CallOption[] options = client.options();
    check(List.of("dev", "main"), sorted(client.rows(sql.getCatalogs(options))));
    check(List.of("main|public"), client.rows(sql.getSchemas("main", "pub%", options)));
    check(List.of("TABLE", "VIEW"), sorted(client.rows(sql.getTableTypes(options))));
    client.update("CREATE VIEW seen AS SELECT d FROM kinds");
    List<String> tables = List.of("TABLE");
    check(
        List.of("main|public|kinds|TABLE"),
        client.rows(sql.getTables(null, "public", "%", tables, false, options)));
    check(2, client.rows(sql.getTables("main", null, "%", null, false, options)).size());
    for (String unknown : new String[] {"nothing", "no such name!"}) {
      check(0, client.rows(sql.getTables(unknown, null, "%", null, false, options)).size());
      check(0, client.rows(sql.getSchemas(unknown, null, options)).size());
    }
    check(16, columns(client, "kinds"));
    TableRef table = TableRef.of("main", "public", "kinds");
    check(0, client.rows(sql.getPrimaryKeys(table, options)).size());
    client.update("CREATE TABLE keyed (a BIGINT, b BIGINT, c BIGINT, PRIMARY KEY (b, a))");
    check(
        List.of("main|public|keyed|a|null|1", "main|public|keyed|b|null|2"),
        client.rows(sql.getPrimaryKeys(TableRef.of(null, "public", "keyed"), options)));
    client.update("DROP TABLE keyed");
    check(0, client.rows(sql.getImportedKeys(table, options)).size());
    check(0, client.rows(sql.getExportedKeys(table, options)).size());
    check(0, client.rows(sql.getCrossReference(table, table, options)).size());
    check(15, client.rows(sql.getXdbcTypeInfo(options)).size());
    // The JDBC driver fails if it reads a property that is missing.
    List<SqlInfo> read = new ArrayList<>();
    for (SqlInfo info : SqlInfo.values()) {
      boolean isOptional = info.name().contains("SUBSTRAIT_M") || info.name().contains("CONCURRENCIES");
      if (info != SqlInfo.UNRECOGNIZED && !isOptional) {
        read.add(info);
      }
    }
    int count = client.rows(sql.getSqlInfo(read.toArray(new SqlInfo[0]), options)).size();
    check(read.size(), count);
    client.update("DROP VIEW seen");
  }

  /** Returns the number of columns of a table, from the schema in the list of tables. */
  private static int columns(Client client, String name) throws Exception {
    FlightInfo info = client.sql.getTables(null, null, name, null, true, client.options());
    var ticket = info.getEndpoints().get(0).getTicket();
    try (FlightStream stream = client.sql.getStream(ticket, client.options())) {
      stream.next();
      VarBinaryVector schemas = (VarBinaryVector) stream.getRoot().getVector("table_schema");
      var bytes = new java.io.ByteArrayInputStream(schemas.get(0));
      var channel = new ReadChannel(java.nio.channels.Channels.newChannel(bytes));
      return MessageSerializer.deserializeSchema(channel).getFields().size();
    }
  }

  private static List<String> sorted(List<String> rows) {
    Set<String> sorted = new TreeSet<>(rows);
    return new ArrayList<>(sorted);
  }

  /** An error has its code, its place and its hint. */
  private static void errors(Client client) throws Exception {
    for (Map.Entry<String, FlightStatusCode> entry :
        Map.of(
                "SELECT dd FROM kinds", FlightStatusCode.INVALID_ARGUMENT,
                "SELECT * FROM kindz", FlightStatusCode.NOT_FOUND)
            .entrySet()) {
      try {
        client.query(entry.getKey());
        throw new AssertionError(entry.getKey() + " has no error");
      } catch (FlightRuntimeException error) {
        check(entry.getValue(), error.status().code());
        String message = error.getMessage();
        for (String part : new String[] {"line 1, column", "hint: ", "Did you mean"}) {
          if (!message.contains(part)) {
            throw new AssertionError(part + " is not in " + message);
          }
        }
      }
    }
  }

  /** The end of the request cancels the statement. */
  private static void cancel(Client client) throws Exception {
    try (Prepared prepared = client.prepare(ENDLESS)) {
      FlightInfo info = prepared.execute(client.options());
      var ticket = info.getEndpoints().get(0).getTicket();
      FlightStream stream = client.sql.getStream(ticket, client.options());
      Thread.sleep(500);
      stream.cancel("Cancel", null);
      try {
        while (stream.next()) {}
        throw new AssertionError("the statement was not cancelled");
      } catch (FlightRuntimeException error) {
        check(FlightStatusCode.CANCELLED, error.status().code());
      }
    }
    String running = "SELECT count(*) AS n FROM system.queries WHERE status = 'running'";
    long deadline = System.nanoTime() + 60_000_000_000L;
    // The query that counts is running.
    while (!client.query(running).equals(List.of("1"))) {
      if (System.nanoTime() > deadline) {
        throw new AssertionError("the statement is still running");
      }
    }
  }

  /** Transactions are committed and rolled back. The JDBC driver does not use them. */
  private static void transactions(Client client) throws Exception {
    for (boolean isCommit : new boolean[] {false, true}) {
      Transaction transaction = client.sql.beginTransaction(client.options());
      client.sql.executeUpdate("INSERT INTO kinds (d) VALUES (77)", transaction, client.options());
      if (isCommit) {
        client.sql.commit(transaction, client.options());
      } else {
        client.sql.rollback(transaction, client.options());
      }
      String count = "SELECT count(*) AS n FROM kinds WHERE d = 77";
      check(List.of(isCommit ? "1" : "0"), client.query(count));
    }
  }

  /** The option `catalog` of a session selects the ref of its further requests. */
  private static void catalogs(Client client) throws Exception {
    check(1, client.query("SHOW TABLES").size());
    check(false, set(client, "catalog", "dev").hasErrors());
    check(List.of(), client.query("SHOW TABLES"));
    for (String[] wrong : new String[][] {{"catalog", "nothing"}, {"colour", "red"}}) {
      check(true, set(client, wrong[0], wrong[1]).hasErrors());
    }
    check(List.of(), client.query("SHOW TABLES"));
    var options = client.sql.getSessionOptions(new GetSessionOptionsRequest(), client.options());
    String catalog = options.getSessionOptions().get("catalog").acceptVisitor(new AsText());
    check("dev", catalog);
    check(false, set(client, "catalog", "").hasErrors());
    check(1, client.query("SHOW TABLES").size());
    client.sql.closeSession(new CloseSessionRequest(), client.options());
  }

  private static SetSessionOptionsResult set(Client client, String name, String value) {
    var values = Map.of(name, SessionOptionValueFactory.makeSessionOptionValue(value));
    return client.sql.setSessionOptions(new SetSessionOptionsRequest(values), client.options());
  }

  /** Returns the text of an option. */
  private static final class AsText extends NoOpSessionOptionValueVisitor<String> {
    @Override
    public String visit(String value) {
      return value;
    }
  }

  public static void main(String[] arguments) throws Exception {
    String uri = arguments[0];
    String certificate = arguments[1];
    CredentialCallOption token =
        new CredentialCallOption(new BearerCredentialWriter(arguments[2]));
    try (Client client = new Client(uri, certificate, token).with("x-headwater-ref", "main")) {
      types(client);
      parameters(client);
      descriptions(client);
      metadata(client);
      errors(client);
      cancel(client);
      transactions(client);
    }
    try (Client client = new Client(uri, certificate, token).with("x-headwater-ref", "dev")) {
      check(List.of(), client.query("SHOW TABLES"));
    }
    try (Client client = new Client(uri, certificate, token)) {
      catalogs(client);
    }
    CredentialCallOption password =
        new CredentialCallOption(new BasicAuthCredentialWriter(arguments[3], arguments[4]));
    try (Client client = new Client(uri, certificate, password)) {
      check(1, client.query("SHOW GRANTS").size());
      FlightInfo tables = client.sql.getTables(null, null, "%", null, false, client.options());
      check(List.of(), client.rows(tables));
    }
    System.out.println("done");
  }
}

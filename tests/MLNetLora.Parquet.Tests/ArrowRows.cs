using System.Text.Json;
using Apache.Arrow;
using Apache.Arrow.Types;
using ParquetSharp;

namespace MLNetLora.Parquet.Tests;

/// <summary>
/// JSON rows as Arrow arrays and Parquet files, with the types that Hugging Face's datasets infers: structs with the fields of all rows, null where a row has
/// none.
/// </summary>
internal static class ArrowRows
{
    public static void Write(
        string path,
        IReadOnlyList<string> jsonl,
        int rowsPerGroup = 1000,
        Compression compression = Compression.Snappy,
        bool dictionary = true,
        bool large = false,
        bool schema = false)
    {
        JsonElement[] rows = [.. jsonl.Select(line => JsonElement.Parse(line))];
        StructType type = (StructType)Infer(rows, large);
        using WriterPropertiesBuilder builder = new();
        builder.Compression(compression);
        if (!dictionary)
        {
            builder.DisableDictionary();
        }

        using WriterProperties properties = builder.Build();
        using ParquetSharp.Arrow.ArrowWriterPropertiesBuilder arrowBuilder = new();
        if (schema)
        {
            arrowBuilder.StoreSchema();
        }

        using ParquetSharp.Arrow.ArrowWriterProperties arrow = arrowBuilder.Build();
        Schema columns = new(type.Fields, null);
        using ParquetSharp.Arrow.FileWriter writer = new(path, columns, properties, arrow);
        foreach (JsonElement[] group in rows.Chunk(rowsPerGroup))
        {
            using RecordBatch batch = new(
                columns,
                type.Fields.Select(field => Build([.. group.Select(row => Property(row, field.Name))], field.DataType)),
                group.Length);
            writer.WriteRecordBatch(batch);
        }
        writer.Close();
    }

    private static JsonElement? Property(JsonElement? row, string name)
    {
        bool given = row is { } value && value.TryGetProperty(name, out JsonElement property) && property.ValueKind != JsonValueKind.Null;
        return given ? row!.Value.GetProperty(name) : null;
    }

    private static IArrowType Infer(IReadOnlyList<JsonElement> values, bool large)
    {
        switch (values.Select(value => value.ValueKind).FirstOrDefault(kind => kind != JsonValueKind.Null))
        {
            case JsonValueKind.Object:
                string[] names = [.. values.SelectMany(value => value.EnumerateObject()).Select(property => property.Name).Distinct()];
                return new StructType([.. names.Select(name => new Field(
                    name,
                    Infer([.. values.Select(value => Property(value, name)).OfType<JsonElement>()], large),
                    true))]);
            case JsonValueKind.Array:
                Field item = new("item", Infer([.. values.SelectMany(value => value.EnumerateArray())], large), true);
                return large ? new LargeListType(item) : new ListType(item);
            case JsonValueKind.Number:
                return values.All(value => value.TryGetInt64(out _)) ? Int64Type.Default : DoubleType.Default;
            case JsonValueKind.True or JsonValueKind.False:
                return BooleanType.Default;
            default:
                return large ? LargeStringType.Default : StringType.Default;
        }
    }

    private static IArrowArray Build(JsonElement?[] values, IArrowType type)
    {
        ArrowBuffer.BitmapBuilder valid = new();
        foreach (JsonElement? value in values)
        {
            valid.Append(value is not null);
        }

        int nulls = values.Count(value => value is null);
        switch (type)
        {
            case StructType row:
                return new StructArray(
                    row,
                    values.Length,
                    row.Fields.Select(field => Build([.. values.Select(value => Property(value, field.Name))], field.DataType)),
                    valid.Build(),
                    nulls);
            case ListType or LargeListType:
                JsonElement?[] items = [.. values.SelectMany(value => value?.EnumerateArray().Select(item => (JsonElement?)item).ToArray() ?? [])];
                List<int> ends = [0];
                foreach (JsonElement? value in values)
                {
                    ends.Add(ends[^1] + (value?.GetArrayLength() ?? 0));
                }

                return type is ListType list
                    ? new ListArray(
                        list,
                        values.Length,
                        new ArrowBuffer.Builder<int>().AppendRange(ends).Build(),
                        Build(items, list.ValueDataType),
                        valid.Build(),
                        nulls)
                    : new LargeListArray(
                        (LargeListType)type,
                        values.Length,
                        new ArrowBuffer.Builder<long>().AppendRange(ends.Select(end => (long)end)).Build(),
                        Build(items, ((LargeListType)type).ValueDataType),
                        valid.Build(),
                        nulls);
            case StringType:
                StringArray.Builder texts = new();
                foreach (JsonElement? value in values)
                {
                    _ = value is { } text ? texts.Append(text.GetString()) : texts.AppendNull();
                }

                return texts.Build();
            case LargeStringType:
                byte[][] larges = [.. values.Select(value => System.Text.Encoding.UTF8.GetBytes(value?.GetString() ?? ""))];
                List<long> offsets = [0];
                foreach (byte[] text in larges)
                {
                    offsets.Add(offsets[^1] + text.Length);
                }

                return new LargeStringArray(
                    values.Length,
                    new ArrowBuffer.Builder<long>().AppendRange(offsets).Build(),
                    new ArrowBuffer.Builder<byte>().AppendRange(larges.SelectMany(text => text)).Build(),
                    valid.Build(),
                    nulls);
            case Int64Type:
                Int64Array.Builder integers = new();
                foreach (JsonElement? value in values)
                {
                    integers.Append(value?.GetInt64());
                }

                return integers.Build();
            case DoubleType:
                DoubleArray.Builder numbers = new();
                foreach (JsonElement? value in values)
                {
                    numbers.Append(value?.GetDouble());
                }

                return numbers.Build();
            default:
                BooleanArray.Builder flags = new();
                foreach (JsonElement? value in values)
                {
                    _ = value is { } flag ? flags.Append(flag.GetBoolean()) : flags.AppendNull();
                }

                return flags.Build();
        }
    }
}

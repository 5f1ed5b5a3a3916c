using System.Text;
using System.Text.Json;
using MLNetLora.Checkpoints;
using YamlDotNet.Core;
using YamlDotNet.Core.Events;

namespace MLNetLora.Cli.Configuration;

/// <summary>Reads YAML and JSON into <see cref="ConfigValue"/>s that know their lines. Files are not trusted: size and depth have limits, and aliases, which
/// can make a small file a large one, are refused.</summary>
internal static class ConfigFile
{
    private const int LongestFile = 1 << 20;
    private const int Deepest = 16;

    /// <summary>Reads a file; .json is JSON (comments and trailing commas are allowed), anything else YAML.</summary>
    /// <exception cref="ConfigException">It is not there, not readable, or is no map of keys to values.</exception>
    public static MapValue Read(string path)
    {
        if (string.IsNullOrWhiteSpace(path))
        {
            throw new ConfigException("The name of the configuration is empty; give a YAML or JSON file, such as run.yaml.");
        }

        byte[] bytes;
        try
        {
            if (Directory.Exists(path))
            {
                throw new ConfigException($"{path} is a folder; a configuration is a YAML or JSON file, such as run.yaml.");
            }

            bytes = BoundedFile.Read(path, LongestFile)?.ToArray() ?? throw new ConfigException(
                $"{path} has more than {LongestFile} bytes, which no configuration has. Is it the data, which --data takes?");
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new ConfigException($"There is no configuration {path}; give a YAML or JSON file.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ConfigException($"The configuration cannot be read: {e.Message}", e);
        }

        ReadOnlySpan<byte> text = bytes.AsSpan().StartsWith(Encoding.UTF8.Preamble) ? bytes.AsSpan(Encoding.UTF8.Preamble.Length) : bytes;
        ConfigValue value = Path.GetExtension(path).Equals(".json", StringComparison.OrdinalIgnoreCase)
            ? Json(text, path)
            : Yaml(Encoding.UTF8.GetString(text), path);
        return value switch
        {
            MapValue map => map,
            { IsNull: true } => throw new ConfigException($"{path} is empty; it must hold keys and values, such as 'rank: 64'."),
            _ => throw new ConfigException($"{value.Place}: a configuration must be keys and values, such as 'rank: 64', and not {value.Shown}."),
        };
    }

    /// <summary>Reads what stands behind the = of --set.</summary>
    public static ConfigValue Text(string text)
    {
        try
        {
            return Yaml(text, Place.CommandLineName) switch
            {
                ScalarValue scalar => scalar with { Place = Place.CommandLine },
                ListValue list => new ListValue([.. list.Items.Select(item => item is ScalarValue scalar ? scalar with { Place = Place.CommandLine } : item)],
                    Place.CommandLine),
                MapValue map => map with { Place = Place.CommandLine },
                ConfigValue other => other,
            };
        }
        catch (ConfigException)
        {
            return new ScalarValue(text, IsQuoted: true, Place.CommandLine); // a text such as "{instruction}: {input}" is no YAML and meant as it is
        }
    }

    private static ConfigValue Yaml(string text, string path)
    {
        try
        {
            Parser parser = new(new StringReader(text));
            parser.Consume<StreamStart>();
            if (!parser.TryConsume<DocumentStart>(out _))
            {
                return new ScalarValue("", IsQuoted: false, new Place(path, 1));
            }

            ConfigValue value = Yaml(parser, path, Deepest);
            parser.Consume<DocumentEnd>();
            return parser.Accept<StreamEnd>(out _) ? value : throw new ConfigException(
                $"{new Place(path, (int)parser.Current!.Start.Line)}: the file has a second document; a configuration is one.");
        }
        catch (YamlException e)
        {
            throw new ConfigException($"{new Place(path, (int)e.Start.Line)}: this is not YAML: {e.Message.TrimEnd('.')}.", e);
        }
    }

    private static ConfigValue Yaml(Parser parser, string path, int depth)
    {
        Place place = new(path, (int)parser.Current!.Start.Line);
        if (depth == 0)
        {
            throw new ConfigException($"{place}: lists and maps are nested deeper than {Deepest} levels.");
        }

        if (parser.TryConsume<Scalar>(out Scalar? scalar))
        {
            return new ScalarValue(scalar.Value, scalar.Style is not (ScalarStyle.Plain or ScalarStyle.Any), place);
        }

        if (parser.TryConsume<SequenceStart>(out _))
        {
            List<ConfigValue> items = [];
            while (!parser.TryConsume<SequenceEnd>(out _))
            {
                items.Add(Yaml(parser, path, depth - 1));
            }

            return new ListValue(items, place);
        }

        if (!parser.TryConsume<MappingStart>(out _))
        {
            throw new ConfigException($"{place}: aliases (*name) are not read; write the value out.");
        }

        Pairs pairs = new();
        while (!parser.TryConsume<MappingEnd>(out _))
        {
            Place at = new(path, (int)parser.Current!.Start.Line);
            if (!parser.TryConsume<Scalar>(out Scalar? key))
            {
                throw new ConfigException($"{at}: a key must be a word.");
            }

            pairs.Add(key.Value, Yaml(parser, path, depth - 1) with { Place = at }, at);
        }

        return new MapValue(pairs.All, place);
    }

    private static ConfigValue Json(ReadOnlySpan<byte> text, string path)
    {
        try
        {
            Utf8JsonReader reader = new(text, new JsonReaderOptions
            {
                AllowTrailingCommas = true,
                CommentHandling = JsonCommentHandling.Skip,
                MaxDepth = Deepest
            });
            reader.Read();
            ConfigValue value = Json(ref reader, new LineCounter(text), path);
            reader.Read();
            return value;
        }
        catch (JsonException e)
        {
            throw new ConfigException($"{new Place(path, (int)(e.LineNumber ?? 0) + 1)}: this is not JSON: {e.Message.Split(" LineNumber:")[0]}", e);
        }
    }

    private static ConfigValue Json(ref Utf8JsonReader reader, LineCounter lines, string path)
    {
        Place place = new(path, lines.Of(reader.TokenStartIndex));
        switch (reader.TokenType)
        {
            case JsonTokenType.StartArray:
                List<ConfigValue> items = [];
                while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
                {
                    items.Add(Json(ref reader, lines, path));
                }

                return new ListValue(items, place);
            case JsonTokenType.StartObject:
                Pairs pairs = new();
                while (reader.Read() && reader.TokenType != JsonTokenType.EndObject)
                {
                    Place at = new(path, lines.Of(reader.TokenStartIndex));
                    string key = Text(reader, at);
                    reader.Read();
                    pairs.Add(key, Json(ref reader, lines, path) with { Place = at }, at);
                }

                return new MapValue(pairs.All, place);
            case JsonTokenType.String:
                return new ScalarValue(Text(reader, place), IsQuoted: true, place);
            default:
                return new ScalarValue(Encoding.UTF8.GetString(reader.ValueSpan), IsQuoted: false, place);
        }

        static string Text(Utf8JsonReader at, Place place)
        {
            try
            {
                return at.GetString()!;
            }
            catch (InvalidOperationException e)
            {
                throw new ConfigException($"{place}: this is no text: it holds half of a character, or bytes that are not UTF-8.", e);
            }
        }
    }

    /// <summary>The keys of a map, of which none is there twice.</summary>
    private sealed class Pairs
    {
        private readonly Dictionary<string, Place> _places = [];
        private readonly List<KeyValuePair<string, ConfigValue>> _all = [];

        public IReadOnlyList<KeyValuePair<string, ConfigValue>> All => _all;

        public void Add(string key, ConfigValue value, Place place)
        {
            if (!_places.TryAdd(key, place))
            {
                throw new ConfigException($"{place}: {key} is there twice; it is in line {_places[key].Line} too.");
            }

            _all.Add(new(key, value));
        }
    }

    /// <summary>In which line of a text a byte stands.</summary>
    private sealed class LineCounter
    {
        private readonly List<long> _ends = [];

        public LineCounter(ReadOnlySpan<byte> text)
        {
            for (int i = 0; i < text.Length; i++)
            {
                if (text[i] == '\n')
                {
                    _ends.Add(i);
                }
            }
        }

        public int Of(long position)
        {
            int at = _ends.BinarySearch(position);
            return (at >= 0 ? at : ~at) + 1;
        }
    }
}

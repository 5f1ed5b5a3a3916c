using System.Globalization;
using Microsoft.ML;

// Loads the model zip given as the first argument with nothing but ML.NET, and says what came: "touched" whether this library was loaded before,
// "type" for each transformer, "error" with the innermost message. Then asks it the second argument. With full-disk as the first argument see there;
// with train, a training that can be ended and resumed; with device, whether the device given as the second one can be used.
return args switch
{
    ["full-disk", string zip, string what, string target, string limit] => FullDisk.Run(zip, what, target, ulong.Parse(limit, CultureInfo.InvariantCulture)),
    ["train", string model, string data, string output, .. string[] settings] => ResumedRun.Run(model, data, output, settings),
    ["device", string device] => DeviceProbe.Use(device, fused: false),
    ["device", string device, "fused"] => DeviceProbe.Use(device, fused: true),
    _ => Probe.Run(args[0], args[1]),
};

internal static class Probe
{
    public static int Run(string path, string instruction)
    {
        bool touched = AppDomain.CurrentDomain.GetAssemblies().Any(assembly => assembly.GetName().Name == "MLNetLora");
        Console.WriteLine($"touched: {touched}");
        try
        {
            ITransformer model = new MLContext().Model.Load(path, out DataViewSchema schema);
            Console.WriteLine($"columns: {string.Join(",", schema.Select(column => column.Name))}");
            foreach (ITransformer part in model as IEnumerable<ITransformer> ?? [model])
            {
                Console.WriteLine($"type: {part.GetType().FullName}");
            }
        }
        catch (Exception exception)
        {
            Console.WriteLine($"error: {exception.GetType().Name}: {exception.GetBaseException().GetType().Name}: {exception.GetBaseException().Message}");
            return 1;
        }

        Console.WriteLine($"answer: {Ask(path, instruction).ReplaceLineEndings(" ")}");
        return 0;
    }

    private static string Ask(string path, string instruction)
    {
        MLContext context = new();
        using PredictionEngine<Question, Reply> engine = context.Model.CreatePredictionEngine<Question, Reply>(context.Model.Load(path, out _));
        return engine.Predict(new Question { Instruction = instruction }).Answer;
    }

    internal sealed class Question
    {
        public string Instruction { get; set; } = "";
    }

    internal sealed class Reply
    {
        public string Answer { get; set; } = "";
    }
}

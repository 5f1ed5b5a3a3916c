using System.IO.Compression;
using System.Runtime.CompilerServices;
using Microsoft.ML;
using Microsoft.ML.Data;
using Microsoft.ML.Runtime;
using MLNetLora.TextGeneration;

[assembly: IgnoresAccessChecksTo("Microsoft.ML.Core")]
[assembly: LoadableClass(
    typeof(QwenLoraTransformer),
    typeof(QwenLoraLoader),
    null,
    typeof(SignatureLoadModel),
    "Qwen LoRA text generation",
    QwenLoraLoader.Signature)]

namespace MLNetLora.TextGeneration
{
    /// <summary>
    /// The one file that uses ML.NET's internals, because ML.NET has no public way to write a transformer that its own <c>Model.Save</c> and
    /// <c>Model.Load</c> know (dotnet/machinelearning issues 4911 and 6839). build/Publicize.targets lets it compile; the save and load tests guard
    /// it against a changed ML.NET.
    /// </summary>
    internal static class MLNetInternals
    {
        /// <summary>The seed given to <c>new MLContext(seed)</c>, or null when none was given.</summary>
        public static int? Seed(MLContext context) => ((IHostEnvironmentInternal)context).Seed;

        /// <summary>Whether <c>MLContext.CancelExecution</c> was called, which AutoML does with its trials.</summary>
        public static bool IsCancelled(IHostEnvironment environment) => environment is ICancelable { IsCanceled: true };

        /// <summary>A column of an estimator's output schema.</summary>
        public static SchemaShape.Column Column(string name, DataViewType type) => new(name, SchemaShape.Column.VectorKind.Scalar, type, isKey: false);

        /// <summary>The columns of a view as an estimator that is not fitted yet takes them.</summary>
        public static SchemaShape Shape(DataViewSchema schema) => SchemaShape.Create(schema);

        /// <summary>Writes a model: its header, by which ML.NET finds the loader again, and its parts, each as an entry of its own in the zip.</summary>
        public static void Save(ModelSaveContext context, IEnumerable<(string Name, Action<Stream> Write)> parts)
        {
            context.CheckAtModel();
            context.SetVersionInfo(QwenLoraLoader.Version());
            foreach ((string name, Action<Stream> write) in parts)
            {
                context.SaveBinaryStream(name, writer => write(writer.BaseStream));
            }
        }

        /// <summary>The parts that were saved. They are read from the archive itself: ML.NET would unpack an entry to disk as a whole, however large,
        /// before it looks at it.</summary>
        public static ZipParts Parts(ModelLoadContext context) => new(Archive(context.Repository), context.Directory ?? "");

        /// <summary>A result of cross-validation as ML.NET's own catalogs return it; its constructor is internal.</summary>
        public static TrainCatalogBase.CrossValidationResult<TMetrics> Result<TMetrics>(ITransformer model, TMetrics metrics, IDataView scored, int fold)
            where TMetrics : class => Results<TMetrics>.New(model, metrics, scored, fold);

        [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_archive")]
        private static extern ref ZipArchive Archive(RepositoryReader reader);

        private static class Results<TMetrics>
            where TMetrics : class
        {
            [UnsafeAccessor(UnsafeAccessorKind.Constructor)]
            public static extern TrainCatalogBase.CrossValidationResult<TMetrics> New(ITransformer model, TMetrics metrics, IDataView scored, int fold);
        }
    }

    /// <summary>What <c>Model.Load</c> calls, found by the signature in the saved header; the assembly itself is found by the name in that header.</summary>
    internal static class QwenLoraLoader
    {
        /// <summary>At most 24 ASCII characters.</summary>
        internal const string Signature = "QwenLoraText";

        // The assembly is recorded without its version: a newer library loads older models, and the model's own version says what is readable.
        internal static VersionInfo Version() => new(
            "QWENLORA",
            verWrittenCur: 0x00010001,
            verReadableCur: 0x00010001,
            verWeCanReadBack: 0x00010001,
            loaderAssemblyName: typeof(QwenLoraLoader).Assembly.GetName().Name,
            loaderSignature: Signature);

        internal static QwenLoraTransformer Create(IHostEnvironment environment, ModelLoadContext context)
        {
            context.CheckAtModel(Version());
            return ModelZip.Load(environment, MLNetInternals.Parts(context), ContextSettings.Of(environment).BaseFolders);
        }
    }
}

namespace System.Runtime.CompilerServices
{
    /// <summary>Known to the runtime by name: the assembly that carries it may use the internal members of the named one.</summary>
    [AttributeUsage(AttributeTargets.Assembly, AllowMultiple = true)]
    internal sealed class IgnoresAccessChecksToAttribute(string assemblyName) : Attribute
    {
        /// <summary>Simple name of the assembly whose internals are used.</summary>
        public string AssemblyName { get; } = assemblyName;
    }
}
